"""A run in Weights & Biases: one W&B run a trial, grouped by sweep, replayed from the ledger.

`publish` does so at any time; `follow` while the sweep runs, in a process of its own that the sweep never waits for:

    python -m ddl.tracking.publish RUN [--follow] [--mode auto|online|offline]
"""

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout

from ddl.tracking import connection
from ddl.tracking.connection import TROUBLE, WandbClient
from ddl.tracking.follower import FollowerStatus, publish_command
from ddl.tracking.offline import OfflineRuns
from ddl.tracking.online import OnlineRuns
from ddl.tracking.records import LedgerReplay

POLL_S = 2.0
"""Between two looks at the ledger."""

FIRST_PAUSE_S = 10.0
"""After the first failure; each further one in a row doubles it."""

FAILURES = 7
"""In a row, before `follow` gives up: some twelve minutes."""

IDLE_S = 24 * 3600.0
"""Without any news a driver that left no mark of its end is taken to be gone."""


@dataclass(frozen=True)
class Published:
    """What `publish` did: W&B holds `trials` trials at `where`; `changed` of them were written now, with `rows` rows.

    They are the `group` of `entity`'s `project`; `entity` is "" where no server has said it.
    """

    mode: str
    where: str
    trials: int = 0
    changed: int = 0
    rows: int = 0
    entity: str = ""
    project: str = ""
    group: str = ""

    def __str__(self) -> str:
        if self.mode == "disabled":
            return "W&B: disabled in this run's settings; nothing was published."
        run = shlex.quote(str(Path(self.where).parent))
        upload = f" With a key, upload them: python -m ddl.tracking.publish {run} --mode online" if self.mode == "offline" else ""
        return f"W&B ({self.mode}): {self.trials} trials, {self.changed} of them with {self.rows} new rows, in {self.where}.{upload}"


def publish(folder: Path, mode: str | None = None) -> Published:
    """Replay a run into W&B: all trials that have begun, nothing twice, however often this is done.

    `folder` is the run's; `mode` auto, online, offline or disabled (default: what the run was launched with). Trials that
    are still planned are left out, and of one that is running, online, the newest row is.
    Raises ValueError for a folder without a ledger, for a mode that can't be had, where another process publishes the run,
    and where the server can't be reached.
    """
    folder = Path(folder)
    replay = LedgerReplay(folder)
    with WandbClient():
        mode = connection.mode_of(replay.run, mode)
        if mode == "disabled":
            return Published(mode, "")
        try:
            with _alone(folder):
                replay.poll()
                begun = [trial for trial in replay.trials if trial.status != "planned"]
                target = _target(replay, mode, FollowerStatus(None), trusting=False)
                rows = [target.write(replay.record(trial), final=True) for trial in begun]
                target.close()
        except TROUBLE as error:
            raise ValueError(_trouble(mode, error, folder)) from error
        changed = sum(count > 0 for count in rows)
        return Published(mode, target.where, len(begun), changed, sum(rows), target.entity, target.project, replay.group)


def follow(folder: Path, mode: str | None = None, news: TextIO | None = None) -> bool:
    """Publish a run while it is made, until its driver marks the end, or is gone. True where W&B then has all of it.

    Online as it is measured, offline trial by trial as they end. What goes wrong is said on standard error and tried
    again with growing pauses, FAILURES times in a row and once more at the end; nothing is raised for it. How it gets on
    is told into `news`, a word a line (see follower.py).
    """
    folder = Path(folder)
    try:
        replay = LedgerReplay(folder)
        with WandbClient() as client:
            mode = connection.mode_of(replay.run, mode)
            if mode == "disabled":
                return True
            with _alone(folder):
                return _follow(replay, mode, client, FollowerStatus(news))
    except ValueError as error:
        _say(str(error))
    except TROUBLE as error:
        _say(f"W&B: {_first_line(error)}. {_later(folder)}")
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit status."""
    parse = argparse.ArgumentParser(prog="python -m ddl.tracking.publish", description="Replay a run into W&B.")
    parse.add_argument("run", metavar="RUN", type=Path, help="the run's folder")
    parse.add_argument("--follow", action="store_true", help="publish while the sweep runs, until it ends")
    parse.add_argument("--mode", choices=connection.MODES, help="default: what the run was launched with")
    given = parse.parse_args(arguments)
    if given.follow:
        signal.signal(signal.SIGTERM, lambda number, frame: _leave(given.run))
        return 0 if follow(given.run, given.mode, sys.stdout) else 1
    try:
        print(publish(given.run, given.mode))
    except ValueError as error:
        _say(str(error))
        return 2
    return 0


def _follow(replay: LedgerReplay, mode: str, client: WandbClient, news: FollowerStatus) -> bool:
    target = _target(replay, mode, news, trusting=True)
    driver = os.getppid()
    done: dict[str, tuple[object, ...]] = {}
    failures, wait_until = 0, 0.0
    seen, seen_at = (0, 0), time.monotonic()
    while True:
        # Asked before the ledger is read, so that the last reading misses nothing.
        over = replay.over() or os.getppid() != driver or time.monotonic() - seen_at > IDLE_S
        if over or time.monotonic() >= wait_until:
            try:
                _catch_up(replay, target, done)
                if over:
                    target.close()
                failures = 0
            except TROUBLE as error:
                failures += 1
                done.clear()
                target.forget()
                client.restart()
                if over or failures >= FAILURES:
                    _say(_trouble(mode, error, replay.folder))
                    return False
                pause = FIRST_PAUSE_S * 2 ** (failures - 1)
                wait_until = time.monotonic() + pause
                _say(f"W&B: {_first_line(error)}. Trying again in {pause:.0f} s; the sweep goes on meanwhile.")
        if over:
            return True
        if (replay.read, len(done)) != seen:
            seen, seen_at = (replay.read, len(done)), time.monotonic()
        time.sleep(POLL_S)


def _catch_up(replay: LedgerReplay, target: OfflineRuns | OnlineRuns, done: dict[str, tuple[object, ...]]) -> None:
    """Publish what the ledger has beyond `done`, which says how far each trial is published."""
    replay.poll()
    for trial in replay.trials:
        state = (trial.status, trial.attempts, bool(trial.metadata), len(replay.rows.get(trial.trial_id, ())))
        if trial.status != "planned" and done.get(trial.trial_id) != state:
            target.write(replay.record(trial), final=False)
            done[trial.trial_id] = state


def _target(replay: LedgerReplay, mode: str, news: FollowerStatus, trusting: bool) -> OfflineRuns | OnlineRuns:
    project = connection.project_of(replay.run)
    return OnlineRuns(replay.folder, project, news, trusting) if mode == "online" else OfflineRuns(replay.folder, project, news)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two that publish one run would send it twice. The kernel drops this lock with the process that holds it."""
    (folder / "wandb").mkdir(exist_ok=True)
    lock = FileLock(folder / "wandb" / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder}: another process is publishing this run to W&B. Wait for it, or stop it first.") from None
    try:
        yield
    finally:
        lock.release()


def _leave(folder: Path) -> None:
    """End this process now: whoever asks for that has waited long enough, and W&B would wait for its server first."""
    _say(f"W&B: ended before all was published. {_later(folder)}")
    os._exit(1)


def _trouble(mode: str, error: BaseException, folder: Path) -> str:
    place = f"W&B at {connection.server()}" if mode == "online" else "W&B"
    return f"{place}: {_first_line(error)}. {_later(folder)}"


def _later(folder: Path) -> str:
    return f"Nothing is lost, the run is in its ledger; publish it later: {publish_command(folder)}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(". ") or type(error).__name__


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
