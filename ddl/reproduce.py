"""Trains a trial's first steps again from its record, and compares losses and state bit for bit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ddl import provenance
from ddl.devices import Device
from ddl.gpus import machine_gpus
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.precision_setup import prepare_process
from ddl.progress import Diverged
from ddl.run_folder import LEDGER
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.first_steps import METADATA_KEY, FirstSteps
from ddl.sweeps.inline_executor import InlineExecutor
from ddl.sweeps.task_steps import trial_steps
from ddl.sweeps.time_limits import TimeLimits
from ddl.tasks.loading import RecordedTasks, Untrusted
from ddl.tasks.task import Task, precision_of, with_precision

ROUNDING = 1e-4
"""Largest relative difference of two losses, one of them of a trial that was trained as one model with others."""


@dataclass(frozen=True)
class _TrialRecord:
    """A trial's entries in the ledger. `first_steps` are its recorded losses and state, `commit` the code that computed them."""

    path: Path
    run: Mapping[str, Any]
    trial: TrialRow
    first_steps: Mapping[str, Any]
    commit: str


def reproduce(reader: LedgerReader, trial_id: str, steps: int | None = None, trust: bool = False) -> bool:
    """Train the first steps of a trial of the reader's run again in this process; True if they agree bit for bit.

    Losses of a trial that was trained as one model with others have to agree within `ROUNDING`, because it is trained alone here.
    Hyperparameters, seed, precision and number of threads are those of the record. Differences (commit, uncommitted changes,
    versions, machine, data) are printed before the first step, and the outcome at the end. `steps` is the number of steps,
    by default all that are recorded, `trust` as in `RecordedTasks`. Works while the run is under way, and writes nothing into its
    folder. Raises ValueError if there is no such trial, if its record has no first steps, and if it cannot be trained here.
    """
    record = _read_record(reader, trial_id)
    recorded = len(record.first_steps["steps"])
    wanted = recorded if steps is None else steps
    if not 1 <= wanted <= recorded:
        raise ValueError(f"--steps {wanted}: the record of this trial has {recorded} steps. Ask for 1 to {recorded}.")
    if wanted < recorded and not any(record.first_steps["losses"]):
        raise ValueError(f"--steps {wanted}: this trial has no losses to compare, only its state after {recorded} steps. Omit --steps.")
    task, changed = _build_task(record, trust)
    with InlineExecutor() as executor:  # restores torch's settings and random state
        device = executor.device(_assignment(record, task))
        prepare_process(precision_of(task))
        print(f"trial {record.trial.trial_id}: {record.trial.configuration}, seed {record.trial.seed}", flush=True)
        differences = [*(f"the code: {source} has changed" for source in changed), *_differences(record, device)]
        _print_differences(differences)
        first_steps, different_data = _train_first_steps(record, task, device, wanted)
    mismatch = _first_mismatch(record.first_steps, first_steps, wanted)
    stacked = record.first_steps.get("stacked", 1)
    how = "bit for bit" if stacked == 1 else f"up to rounding ({stacked} trials were trained as one model)"
    print(mismatch or f"the first {wanted} steps agree {how}")
    if mismatch:
        print(_possible_cause([*differences, *different_data], device))
    return not mismatch


def _read_record(reader: LedgerReader, trial_id: str) -> _TrialRecord:
    path = reader.folder / "trials" / trial_id
    run, trial = reader.run("task_class", "plan.num_workers"), reader.trial(trial_id)
    first_steps = (trial.metadata or {}).get(METADATA_KEY)
    if not first_steps:
        status = f"it is {trial.status}{f': {trial.reason}' if trial.reason else ''}"
        raise ValueError(f"--reproduce {path}: its record has no first steps to compare with ({status}). Take another trial.")
    if (workers := run["plan"]["num_workers"]) > 1:
        raise ValueError(f"--reproduce {path}: {workers} workers trained it together; --reproduce uses one process. Take another run's.")
    return _TrialRecord(path, run, trial, first_steps, _commit(reader, run, trial_id))


def _commit(reader: LedgerReader, run: Mapping[str, Any], trial_id: str) -> str:
    """The commit of the code that did the trial's first steps: the run's, or that of the resume it last started under."""
    current = commit = run.get("commit", "")
    for event in reader.events().itertuples():
        if event.kind == "resumed":
            current = str(event.detail).removeprefix("commit ")
        elif event.kind == "started" and event.trial_id == trial_id and str(event.detail).startswith("from step 0 "):
            commit = current
    return commit


def _build_task(record: _TrialRecord, trust: bool) -> tuple[Task, Sequence[str]]:
    """The task, and the source files of it that have changed since the run began."""
    try:
        tasks = RecordedTasks(record.run, record.path.parent.parent / LEDGER, trust)
        task = tasks.build(record.trial.task)
    except Untrusted:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"--reproduce {record.path}: its task {record.run['task_class']} cannot be built by this code ({reason}). "
            f"Check out the commit it was trained with{f', {record.commit}' if record.commit else ''}."
        ) from error
    return with_precision(task, record.run["plan"]["precision"]), tasks.changed


def _assignment(record: _TrialRecord, task: Task) -> Assignment:
    plan = record.run["plan"]
    return Assignment(
        trial_id=record.trial.trial_id,
        task=task,
        num_workers=1,
        cpus=plan["cpus_per_trial"],
        gpus=plan["gpus_per_trial"] if machine_gpus().usable else 0,
        folder=record.path,
        checkpoint_every_s=math.inf,
    )


def _differences(record: _TrialRecord, device: Device) -> list[str]:
    """The differences between then and now that are known before any data are loaded."""
    run, code, host = record.run, provenance.code(), provenance.host()
    lines = [
        _difference("commit", record.commit, code["commit"]),
        "" if run.get("diff", "") == code["diff"] else "the uncommitted changes to the code differ (the recorded ones are in the ledger)",
        _difference("device", record.trial.place.rpartition(" ")[2], str(device.torch)),
        _difference("threads", record.first_steps["threads"], torch.get_num_threads()),
    ]
    recorded, current = run.get("versions", {}), provenance.versions()
    lines += [_difference(name, recorded.get(name, ""), current.get(name, "")) for name in {**recorded, **current}]
    recorded_host = run.get("host", {})
    lines += [_difference(name, recorded_host.get(name), host[name]) for name in ("cpu", "gpus", "os")]
    return [line for line in lines if line]


def _train_first_steps(record: _TrialRecord, task: Task, device: Device, wanted: int) -> tuple[Mapping[str, Any], list[str]]:
    """(losses and state of the first `wanted` steps, differences of the data). The latter are printed once the data are loaded."""
    first, complete, differences = FirstSteps(wanted), {}, []
    try:
        for progress in trial_steps(task, device, TimeLimits()):
            if progress.metadata:
                differences = _data_differences(record.trial.metadata or {}, progress.metadata)
                _print_differences(differences)
                print(f"training {wanted} steps on {device.torch}, threads: {torch.get_num_threads()}", flush=True)
            if complete := first.take(progress):
                break
    except Diverged as error:
        print(f"diverged: {error}")
    return (complete or first.so_far())[METADATA_KEY], differences


def _data_differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    before, now = recorded.get("data") or {}, current.get("data") or {}
    lines = [_difference(f"data, {name}", before.get(name), now.get(name)) for name in {**before, **now}]
    lines += [_difference(name, recorded.get(name), current.get(name)) for name in ("parameters", "precision")]
    return [line for line in lines if line]


def _difference(name: str, recorded: Any, current: Any) -> str:
    """A line that names the difference; empty if there is none."""
    return "" if recorded == current else f"{name}: {_as_text(recorded)} then, {_as_text(current)} now"


def _as_text(value: Any) -> str:
    return "none" if value in ("", None, []) else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_differences(differences: Sequence[str]) -> None:
    for line in differences:
        print(f"different: {line}", flush=True)


def _first_mismatch(recorded: Mapping[str, Any], current: Mapping[str, Any], wanted: int) -> str:
    """A line that names the first step at which the two differ; empty if they agree."""
    stacked = "stacked" in recorded
    for step, before, now in zip(recorded["steps"][:wanted], recorded["losses"], current["losses"], strict=False):
        if before != now and not (stacked and _equal_but_for_rounding(before, now)):
            return f"they differ from step {step} on: loss {_loss(before)} recorded, {_loss(now)} now"
    if (done := len(current["steps"])) < wanted:
        return f"they differ: training ended after {done} steps, the recorded trial continued"
    # A trial that diverged within its first steps has no recorded state.
    if wanted == len(recorded["steps"]) and not stacked and recorded["state"] and recorded["state"] != current["state"]:
        same = "the losses are the same, but " if any(recorded["losses"]) else ""
        return f"they differ: {same}the weights or the optimiser's state are different after {wanted} steps"
    return ""


def _equal_but_for_rounding(before: str | None, now: str | None) -> bool:
    return None not in (before, now) and math.isclose(float.fromhex(before or ""), float.fromhex(now or ""), rel_tol=ROUNDING)


def _loss(text: str | None) -> str:
    return "none" if text is None else repr(float.fromhex(text))


def _possible_cause(differences: Sequence[str], device: Device) -> str:
    if differences:
        return "possible cause: the differences above"
    if device.torch.type == "cuda":
        return "possible cause: GPU kernels that add in no fixed order; nothing in the record differs"
    return "nothing in the record differs that would explain it"
