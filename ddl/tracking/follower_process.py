"""Driver's side of the follower process: starts `python -m ddl.tracking RUN --follow`, reads its status, and waits for it.

The wait at a sweep's end lasts while the server accepts data, and ends once the server has stopped answering. Rows that were
not sent by then are in the ledger and can be published later.
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

from ddl.program import program

WORDS = WAITING, ACCEPTED, FAILED = "waiting", "accepted", "failed"
"""Status words of a follower, one per line: it waits for W&B's answer; W&B has accepted the data; the request has failed."""

FIRST_ANSWER_S = 3.0  # seconds that a server which has not answered yet may take at a sweep's end
NEXT_ANSWER_S = 20.0  # seconds that an ended sweep waits for the next request to be accepted
NICENESS = 10  # added to the sweep's niceness, so that training has priority


class FollowerStatus:
    """The follower's side: prints status words to `stream`, or nothing if `stream` is None."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Report the block, which waits for W&B's answer, as waiting and then as accepted, or as failed if it raises."""
        self._print(WAITING)
        try:
            yield
        except BaseException:
            self._print(FAILED)
            raise
        self._print(ACCEPTED)

    def _print(self, word: str) -> None:
        if self._stream is not None:
            # The pipe is broken once the driver has died; the follower notices that by its parent's process id.
            with contextlib.suppress(OSError):
                print(word, file=self._stream, flush=True)


@contextlib.contextmanager
def publish_live(console: Console, folder: Path, mode: str) -> Iterator[None]:
    """Publish the run to W&B during the block, from another process, so that W&B can neither slow nor stop a sweep.

    At the end, wait as long as the server accepts data. If something is still missing then, the console shows how to publish it.
    """
    if mode == "disabled":
        yield
        return
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    with (folder / "launch.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ddl.tracking", str(folder), "--follow", "--driver", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C must reach the sweep only; the follower ends after the sweep
        )
    os.setpriority(os.PRIO_PROCESS, process.pid, min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19))
    assert process.stdout is not None
    status = StatusReader(process.stdout)
    try:
        yield
    finally:
        _wait(process, status)
        if process.returncode != 0:
            console.print(f"W&B does not have all of this run. Publish it later: {publish_command(folder)}", soft_wrap=True)


def publish_command(folder: Path) -> str:
    """The command that publishes a run."""
    return f"{program()} --publish {shlex.quote(str(folder))}"


class StatusReader:
    """The driver's side: reads a follower's status words in a thread."""

    def __init__(self, stream: IO[str]):
        self._word, self._word_at = "", time.monotonic()
        self._unanswered_since: float | None = None  # the first request since the last accepted one, whether or not it failed
        self._answers = False  # the last request that ended was accepted
        self._thread = threading.Thread(target=self._read, args=(stream,), name="wandb-status", daemon=True)
        self._thread.start()

    def _read(self, stream: IO[str]) -> None:
        with stream as lines:
            for line in lines:
                if (word := line.strip()) not in WORDS:
                    continue  # printed by W&B itself
                self._word, self._word_at = word, time.monotonic()
                if word == WAITING:
                    self._unanswered_since = self._unanswered_since or self._word_at
                elif word == ACCEPTED:
                    self._unanswered_since, self._answers = None, True
                else:
                    self._answers = False

    def deadline(self, ended: float) -> float:
        """Time (`time.monotonic`) at which to stop waiting, given the status so far; `ended` is the time of the sweep's end."""
        if self._word == FAILED:
            return ended
        if self._unanswered_since is not None:
            return self._unanswered_since + (NEXT_ANSWER_S if self._answers else FIRST_ANSWER_S)
        return max(self._word_at, ended) + NEXT_ANSWER_S


def _wait(process: "subprocess.Popen[str]", status: StatusReader) -> None:
    ended = time.monotonic()
    # Ctrl-C ends this wait.
    with contextlib.suppress(KeyboardInterrupt):
        while process.poll() is None and time.monotonic() < status.deadline(ended):
            time.sleep(0.05)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
