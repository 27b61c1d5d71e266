"""Trials of a run that are trained again from their beginning, because their files are lost or damaged."""

import shutil
from collections.abc import Collection, Sequence

from ddl.hints import suggest_name
from ddl.ledger import Ledger
from ddl.run_folder import TRIALS
from ddl.storage.runs import RunStore


def plan_again(ledgers: Sequence[Ledger], trial_ids: Collection[str], store: RunStore | None) -> None:
    """Make trials of a run planned again, without their measurements and files. `ledgers` are those of its sweeps.

    Raises ValueError for a trial that the run does not have, for an unreachable store, and for trials of population based training, which
    continue from each other.
    """
    rows = {row.trial_id for ledger in ledgers for row in ledger.trials()}
    for trial_id in trial_ids:
        if trial_id not in rows:
            raise ValueError(f"--again {trial_id}: the run has no such trial.{suggest_name(trial_id, rows)}")
    for ledger in ledgers:
        if trial_ids and ledger.run().get("population"):
            raise ValueError("--again: trials of population based training continue from each other. Begin a new run instead.")
    # The files first: a trial that is planned continues from the checkpoints that it has. The store's first of all, which may be unreachable.
    if store:
        store.remove_trials(trial_ids)
    for ledger in ledgers:
        for trial_id in trial_ids:
            folder = ledger.folder / TRIALS / trial_id
            if folder.is_symlink():  # to the same trial of another sweep
                folder.unlink()
            elif folder.exists():
                shutil.rmtree(folder)
    for ledger in ledgers:
        ledger.forget(trial_ids)


def lost_trials(ledgers: Sequence[Ledger]) -> list[str]:
    """Ids of the trials that have finished and have lost their folder; none if no trial of its sweep has one, as without states.

    A trial that was stopped may have ended before its first checkpoint.
    """
    lost = []
    for ledger in ledgers:
        finished = [row.trial_id for row in ledger.trials() if row.status == "finished"]
        kept = {trial_id for trial_id in finished if (ledger.folder / TRIALS / trial_id).exists()}
        lost += [trial_id for trial_id in finished if kept and trial_id not in kept]
    return list(dict.fromkeys(lost))
