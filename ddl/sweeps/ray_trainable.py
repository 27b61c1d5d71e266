"""The function that Ray Tune runs in a worker process for each pack of trials."""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from ddl import checkpoints
from ddl.sweeps import ray_preemption, ray_stops
from ddl.sweeps.assignment import Assignment, device_of
from ddl.sweeps.child_processes import end_process
from ddl.sweeps.pack import Pack
from ddl.sweeps.ray_schedulers import CHANGED, PERCENT
from ddl.trial_report import RESTARTED, TrialReport

POINTER = "trial.json"
"""File in a Tune checkpoint: [id, folder, step] of the trial and the checkpoint that it refers to."""

GAVE_UP = "gave_up"
"""Key in the last result of a process that ends itself."""


def train(config: dict[str, Any], population: Mapping[str, Pack]) -> None:
    """Run a pack of trials. Its reports wait until the driver has recorded them."""
    from ddl.sweeps.run_pack import run_pack  # imports torch, which the driver, that imports this module too, does without

    pack = find_pack(config, population)
    if not pack.members:  # its process died after the last of them had ended
        return
    if changed := config[CHANGED]:
        pack = Pack((_apply_changes(pack.first, changed),))
    if pack.first.num_workers > 1:
        from ddl.sweeps.ray_train import run_together

        _report(pack.first, ([report] for report in run_together(pack.first)))
        return
    with ray_preemption.preemption_notice() as preemption_requested:
        tune_trial_id = tune.get_context().get_trial_id()
        stopped = partial(ray_stops.stopped_members, tune_trial_id)
        _report(pack.first, run_pack(pack, device_of(pack.first), preemption_requested, stopped, _give_up))


def find_pack(config: Mapping[str, Any], population: Mapping[str, Pack]) -> Pack:
    """The pack of Tune's trial with this `config`."""
    return population[config["trial_id"]] if population else config["pack"]


def _report(first: Assignment, batches: Iterator[list[TrialReport]]) -> None:
    """Pass on the reports. Only a population's have metrics at the top level, where its scheduler reads them."""
    for reports in batches:
        report = reports[-1]
        metrics = report.metrics if report.kind == "stored" else {}
        # NaN would corrupt its comparisons.
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        result = {**finite, PERCENT: 100 * report.step / max(report.total_steps, 1), "reports": reports}
        if report.kind == "stored":
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / POINTER).write_text(json.dumps([first.trial_id, str(first.folder), report.step]))
                tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))
        else:
            tune.report(result)
    # Only now, when the iterator is exhausted: the resources of the trial's workers have been released.
    if report.kind in RESTARTED:
        raise ray_preemption.restart(report.reason)


def _give_up(reports: Sequence[TrialReport]) -> None:
    """Have the driver record the last reports of trials that hang, and end this process. For another thread than the one that hangs."""
    try:
        if reports:
            tune.report({PERCENT: 0.0, "reports": list(reports), GAVE_UP: True})
    finally:
        end_process()


def _apply_changes(assignment: Assignment, changed: Mapping[str, Any]) -> Assignment:
    """The assignment with the hyperparameters that population based training changed, and the checkpoint to continue from.

    Tune's checkpoints only point to a trial; the states stay in the trials' folders.
    """
    if (checkpoint := tune.get_checkpoint()) is not None:
        with checkpoint.as_directory() as folder:
            other_id, other_folder, step = json.loads((Path(folder) / POINTER).read_text())
        if other_id != assignment.trial_id:
            # The state at the moment of the decision: the other trial may have trained further meanwhile.
            theirs = Path(other_folder) / "checkpoints"
            checkpoints.take_over(assignment.folder / "checkpoints", assignment.trial_id, theirs, other_id, step)
    return replace(assignment, task=replace(assignment.task, **changed), changed=dict(changed))
