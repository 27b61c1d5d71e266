"""The process that follows a run into W&B, from both its sides: who starts it and waits for it, and what it tells meanwhile.

The wait for it at a sweep's end is bounded by progress: it lasts while the server takes what it is sent, and ends at once
where the server has not answered for a while. What is not sent by then is in the ledger and can be sent later.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO

from rich.console import Console

WORDS = ASKING, TAKEN, FAILED = "asking", "taken", "failed"
"""What a follower tells, a word a line: it waits for W&B's answer; W&B has taken something; W&B has failed it."""

ANSWERED_WITHIN_S = 3.0
"""How long a server that has not answered before may take at a sweep's end."""

TAKEN_WITHIN_S = 20.0
"""How long a sweep that has ended waits for the next thing to be taken."""

NICENESS = 10
"""More than the sweep's own: training comes first."""


class FollowerStatus:
    """What a follower tells, into `stream`; None: nobody listens."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Around what takes W&B's answer."""
        self._tell(ASKING)
        try:
            yield
        except BaseException:
            self._tell(FAILED)
            raise
        self._tell(TAKEN)

    def _tell(self, word: str) -> None:
        if self._stream is not None:
            # Nobody listens any more: the driver is gone, which the follower sees for itself.
            with contextlib.suppress(OSError):
                print(word, file=self._stream, flush=True)


@contextlib.contextmanager
def publish_live(console: Console, folder: Path, mode: str) -> Iterator[None]:
    """The run is replayed into W&B meanwhile, by a process of its own, so that W&B can neither slow nor stop a sweep.

    At the end it is given time for the rest as long as it gets on; where something is missing then, the console says so.
    """
    if mode == "disabled":
        yield
        return
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    with (folder / "launch.log").open("ab") as log:
        follower = subprocess.Popen(
            [sys.executable, "-m", "ddl.tracking.publish", str(folder), "--follow"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # a Ctrl-C is the sweep's; this one ends when it sees the sweep's end
        )
    os.setpriority(os.PRIO_PROCESS, follower.pid, min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19))
    assert follower.stdout is not None
    heard = _Heard(follower.stdout)
    try:
        yield
    finally:
        _wait(follower, heard)
        if follower.returncode != 0:
            console.print(f"W&B does not have all of this run; publish it later: {publish_command(folder)}", soft_wrap=True, markup=False)


def publish_command(folder: Path) -> str:
    return f"python launch.py --publish {shlex.quote(str(folder))}"


class _Heard:
    """What a follower has told so far."""

    def __init__(self, stream: IO[str]):
        self._word, self._at = "", time.monotonic()
        self._silent_since: float | None = None  # when it first asked for what it waits for still, failures in between or not
        self._answers = False  # since the last failure
        self._thread = threading.Thread(target=self._listen, args=(stream,), name="wandb-news", daemon=True)
        self._thread.start()

    def _listen(self, stream: IO[str]) -> None:
        with stream as lines:
            for line in lines:
                if (word := line.strip()) not in WORDS:
                    continue  # W&B's own
                self._word, self._at = word, time.monotonic()
                if word == ASKING:
                    self._silent_since = self._silent_since or self._at
                elif word == TAKEN:
                    self._silent_since, self._answers = None, True
                else:
                    self._answers = False

    def patience_until(self, ended: float) -> float:
        """When (`time.monotonic`) there is nothing more to be waited for, by what is known now; `ended`: when the sweep did."""
        if self._word == FAILED:
            return ended
        if self._silent_since is not None:
            return self._silent_since + (TAKEN_WITHIN_S if self._answers else ANSWERED_WITHIN_S)
        return max(self._at, ended) + TAKEN_WITHIN_S


def _wait(follower: "subprocess.Popen[str]", heard: _Heard) -> None:
    ended = time.monotonic()
    # Who interrupts now, when nothing but this is left to do, has waited long enough.
    with contextlib.suppress(KeyboardInterrupt):
        while follower.poll() is None and time.monotonic() < heard.patience_until(ended):
            time.sleep(0.05)
    if follower.poll() is None:
        follower.terminate()
        try:
            follower.wait(5)
        except subprocess.TimeoutExpired:
            follower.kill()
            follower.wait()
