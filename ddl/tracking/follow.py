"""Publishes a run to W&B while its sweep runs, in a process of its own (`follower_process.py` starts it)."""

import os
import time
from pathlib import Path
from typing import TextIO

from ddl.standard_streams import complain
from ddl.tracking import connection
from ddl.tracking.connection import WANDB_ERRORS, WandbClient
from ddl.tracking.follower_process import FollowerStatus
from ddl.tracking.offline import OfflineRuns
from ddl.tracking.online import OnlineRuns
from ddl.tracking.publish import describe_error, open_target, publish_later, publishing_lock, write_trials
from ddl.tracking.records import LedgerReplay

POLL_S = 2.0  # seconds between two reads of the ledger
FIRST_PAUSE_S = 10.0  # pause after the first failure, in seconds; each further failure in a row doubles it
FAILURES = 7  # failures in a row after which `follow` gives up: about twelve minutes


def follow(folder: Path, mode: str | None = None, status_stream: TextIO | None = None, driver: int | None = None) -> bool:
    """Publish a run until its driver marks the end or dies. Returns True if W&B then has all of it.

    `driver` is the process that trains, the parent of this one: it may die before this process has begun (default: the parent now).

    Online runs get each row as it is measured, offline runs each trial as it ends. Failures are printed on standard error and
    retried with growing pauses, FAILURES times in a row and once more at the end; none is raised. The status of each request
    goes to `status_stream`, one word per line (`FollowerStatus`).
    """
    driver = driver or os.getppid()
    try:
        replay = LedgerReplay(Path(folder))
        with WandbClient() as client:
            mode = connection.resolve_mode(replay.run, mode)
            if mode == "disabled":
                return True
            with publishing_lock(replay.folder):
                return _publish_until_end(replay, mode, client, FollowerStatus(status_stream), driver)
    except ValueError as error:
        complain(str(error))
    except WANDB_ERRORS as error:
        complain(f"{describe_error(error, mode)}. {publish_later(folder)}")
    return False


def _publish_until_end(replay: LedgerReplay, mode: str, client: WandbClient, status: FollowerStatus, driver: int) -> bool:
    target = open_target(replay, mode, status, skip_complete=True)
    published: dict[str, tuple[object, ...]] = {}
    refused: dict[str, str] = {}
    failures, retry_at = 0, 0.0
    while True:
        # Checked before the ledger is read, so that the last read misses nothing.
        ended = replay.ended() or os.getppid() != driver
        if ended:  # the reason may have gone
            for trial_id in refused:
                published.pop(trial_id, None)
            refused = {}
        if ended or time.monotonic() >= retry_at:
            try:
                refused |= _publish_changes(replay, target, client, published)
                if ended:
                    target.close()
                failures = 0
            except WANDB_ERRORS as error:
                failures += 1
                published.clear()
                target.reset()
                client.restart()
                if ended or failures >= FAILURES:
                    complain(f"{describe_error(error, mode)}. {publish_later(replay.folder)}")
                    return False
                pause = FIRST_PAUSE_S * 2 ** (failures - 1)
                retry_at = time.monotonic() + pause
                complain(f"{describe_error(error, mode)}. Trying again in {pause:.0f} s; the sweep continues.")
        if ended:
            for line in refused.values():
                complain(line)
            return not refused
        time.sleep(POLL_S)


def _publish_changes(
    replay: LedgerReplay, target: OfflineRuns | OnlineRuns, client: WandbClient, published: dict[str, tuple[object, ...]]
) -> dict[str, str]:
    """Publish every trial whose state in the ledger differs from the one in `published`, and update `published`.

    Returns a line for each trial that W&B refuses; it is published again when its state changes.
    """
    replay.poll()
    states = {
        trial.trial_id: (trial.status, trial.attempts, bool(trial.metadata), len(replay.rows.get(trial.trial_id, ())))
        for trial in replay.trials
    }
    changed = [trial for trial in replay.trials if trial.status != "planned" and published.get(trial.trial_id) != states[trial.trial_id]]
    written, refused = write_trials(replay, target, client, changed, final=False)
    published.update({trial_id: states[trial_id] for trial_id in (*written, *refused)})
    return refused
