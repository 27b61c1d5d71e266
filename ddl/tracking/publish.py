"""Publishes a finished or interrupted run to Weights & Biases: one W&B run per trial, grouped by sweep, replayed from the ledger."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ddl.ledger_tables import TrialRow
from ddl.tracking import connection
from ddl.tracking.connection import WANDB_ERRORS, WandbClient
from ddl.tracking.follower_process import FollowerStatus, publish_command
from ddl.tracking.offline import OfflineRuns
from ddl.tracking.online import OnlineRuns
from ddl.tracking.records import LedgerReplay
from ddl.units import count


@dataclass(frozen=True)
class Published:
    """Result of `publish`: W&B has `trials` trials at `where`; this call wrote `changed` of them, with `rows` new rows.

    The trials are the W&B group `group` in `project` of `entity`; `entity` is "" until a server has named it.
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
        upload = f" With a key, upload them: python -m ddl.tracking {run} --mode online" if self.mode == "offline" else ""
        return (
            f"W&B ({self.mode}): {count(self.trials, 'trial')}, {self.changed} of them with {self.rows} new rows, in {self.where}.{upload}"
        )


def publish(folder: Path, mode: str | None = None) -> Published:
    """Replay a run into W&B: every trial that has started. Publishing again sends nothing twice.

    `folder` is the run's; `mode` is auto, online, offline or disabled (default: the mode the run was launched with). Planned
    trials are skipped unless they have begun and were interrupted, and online the newest row of a running trial is skipped.
    Raises ValueError if the folder has no ledger, if the mode cannot be used, if another process publishes the run, if the
    server cannot be reached, and, after all others are published, if W&B refuses a trial.
    """
    replay = LedgerReplay(Path(folder))
    with WandbClient() as client:
        mode = connection.resolve_mode(replay.run, mode)
        if mode == "disabled":
            return Published(mode, "")
        try:
            with publishing_lock(replay.folder):
                replay.poll()
                started = [trial for trial in replay.trials if trial.status != "planned" or trial.trial_id in replay.rows]
                target = open_target(replay, mode, FollowerStatus(None), skip_complete=False)
                written, refused = write_trials(replay, target, client, started, final=True)
                target.close()
        except WANDB_ERRORS as error:
            raise ValueError(f"{describe_error(error, mode)}. {publish_later(folder)}") from error
        if refused:
            raise ValueError("\n".join([*refused.values(), f"W&B has the other {count(len(written), 'trial')}."]))
        changed = sum(rows > 0 for rows in written.values())
        return Published(mode, target.where, len(started), changed, sum(written.values()), target.entity, target.project, replay.group)


def write_trials(
    replay: LedgerReplay, target: OfflineRuns | OnlineRuns, client: WandbClient, trials: Sequence[TrialRow], final: bool
) -> tuple[dict[str, int], dict[str, str]]:
    """Write the trials: (the number of new rows of each, a line for each that W&B refuses), by trial id. `final` as for `OnlineRuns.write`.

    A trial is refused if the next one is not: a run that was deleted at W&B cannot be written again. Errors of two trials in a row are
    the server's or the network's, and are raised.
    """
    written: dict[str, int] = {}
    refused: dict[str, str] = {}
    failed: tuple[TrialRow, BaseException] | None = None
    for trial in trials:
        try:
            written[trial.trial_id] = target.write(replay.record(trial), final)
        except WANDB_ERRORS as error:
            if failed:
                raise
            failed = trial, error
            target.reset()
            client.restart()
            continue
        if failed:
            row, reason = failed
            refused[row.trial_id] = f"W&B does not take trial {row.trial_id} ({row.configuration} seed {row.seed}): {_first_line(reason)}."
            failed = None
    if failed:
        raise failed[1]
    return written, refused


def open_target(replay: LedgerReplay, mode: str, status: FollowerStatus, skip_complete: bool) -> OfflineRuns | OnlineRuns:
    """The writer for `mode`, online or offline. `skip_complete`: see `OnlineRuns`."""
    project = connection.project_name(replay.run)
    return OnlineRuns(replay.folder, project, status, skip_complete) if mode == "online" else OfflineRuns(replay.folder, project, status)


@contextmanager
def publishing_lock(folder: Path) -> Iterator[None]:
    """Lock a run against a second publisher, which would send every row again. Raises ValueError if there is one.

    The kernel releases the lock if this process dies.
    """
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


def describe_error(error: BaseException, mode: str | None) -> str:
    """First line of a W&B error, after the server's address if `mode` is online."""
    return f"W&B at {connection.server()}: {_first_line(error)}" if mode == "online" else f"W&B: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(". ") or type(error).__name__


def publish_later(folder: Path) -> str:
    """Advice for a run that could not be published now."""
    return f"Nothing is lost: the ledger has the whole run. Publish it later: {publish_command(folder)}"
