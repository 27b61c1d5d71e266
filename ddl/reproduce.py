"""A trial again from its record: do its first steps come out as they did then, to the bit?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ddl import provenance
from ddl.devices import Device
from ddl.hints import did_you_mean_or_there_are
from ddl.ledger import LedgerReader, TrialRow
from ddl.progress import Diverged
from ddl.sweeps.executors import InlineExecutor
from ddl.sweeps.first_steps import METADATA_KEY, FirstSteps
from ddl.sweeps.worker import Assignment, device_of, with_precision
from ddl.tasks.loading import load_task_class
from ddl.tasks.task import Task


@dataclass(frozen=True)
class _Record:
    """What a ledger holds of a trial; `first` is what its first steps came to then."""

    path: Path
    run: Mapping[str, Any]
    trial: TrialRow
    first: Mapping[str, Any]
    commit: str


def reproduce(path: Path, steps: int | None = None) -> bool:
    """Train the first steps of the trial `RUN/trials/TRIAL_ID` again, in this process; whether they agree with its record bit for bit.

    As the record says: the same hyperparameters, seed, precision and number of threads. What is different now (commit,
    uncommitted changes, versions, machine, data) is printed before a step is done, then the outcome. `steps` is how many, all
    that are recorded by default. Works while a run is under way and afterwards, and writes nothing into its folder. Raises
    ValueError where there is no such trial, where its record holds no first steps, and where it cannot be trained here.
    """
    record = _read(path)
    recorded = len(record.first["steps"])
    wanted = recorded if steps is None else steps
    if not 1 <= wanted <= recorded:
        raise ValueError(f"--steps {wanted}: the record of this trial holds {recorded} steps. Ask for 1 to {recorded}.")
    if wanted < recorded and not any(record.first["losses"]):
        raise ValueError(f"--steps {wanted}: this trial has no losses to compare, only its state after {recorded}. Leave --steps out.")
    task = _task(record)
    with InlineExecutor():  # which leaves threads and the like as they were
        device = device_of(_assignment(record, task))
        print(f"trial {record.trial.trial_id}: {record.trial.configuration}, seed {record.trial.seed}", flush=True)
        differences = _differences(record, device)
        _show(differences)
        first, different_data = _train(record, task, device, wanted)
    verdict = _verdict(record.first, first, wanted)
    print(verdict or f"the first {wanted} steps agree bit for bit")
    if verdict:
        print(_reason([*differences, *different_data], device))
    return not verdict


def _read(path: Path) -> _Record:
    trial_id, folder = path.name, path.parent.parent
    if path.parent.name != "trials":
        raise ValueError(f"--reproduce {path}: name a trial as RUN/trials/TRIAL_ID, with a run's folder and an id from its results.csv.")
    reader = LedgerReader(folder)
    run, trials = reader.run(), {trial.trial_id: trial for trial in reader.trials()}
    if trial_id not in trials:
        raise ValueError(f"--reproduce {path}: this run has no trial {trial_id}.{did_you_mean_or_there_are(trial_id, trials)}")
    trial = trials[trial_id]
    first = (trial.metadata or {}).get(METADATA_KEY)
    if not first:
        ended = f"it is {trial.status}{f': {trial.reason}' if trial.reason else ''}"
        raise ValueError(f"--reproduce {path}: its record holds no first steps to compare with ({ended}). Take another trial.")
    if (workers := run["plan"]["num_workers"]) > 1:
        raise ValueError(f"--reproduce {path}: {workers} workers trained it together, and this trains in one process. Take another run's.")
    return _Record(path, run, trial, first, _commit(reader, run, trial_id))


def _commit(reader: LedgerReader, run: Mapping[str, Any], trial_id: str) -> str:
    """Of the code that did the trial's first steps: the run's, or that of the resume it last began under."""
    commit = began = run.get("commit", "")
    for event in reader.events().itertuples():
        if event.kind == "resumed":
            commit = str(event.detail).removeprefix("commit ")
        elif event.kind == "started" and event.trial_id == trial_id and str(event.detail).startswith("from step 0 "):
            began = commit
    return began


def _task(record: _Record) -> Task:
    try:
        task = load_task_class(record.run["task_class"])(**record.trial.task)
    except ValueError as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"--reproduce {record.path}: its task {record.run['task_class']} cannot be built by this code ({said}). "
            f"Check out the commit it was trained with{f', {record.commit}' if record.commit else ''}."
        ) from error
    return with_precision(task, record.run["plan"]["precision"])


def _assignment(record: _Record, task: Task) -> Assignment:
    plan = record.run["plan"]
    gpus = plan["gpus_per_trial"] if torch.cuda.is_available() else 0
    return Assignment(record.trial.trial_id, task, 1, plan["cpus_per_trial"], gpus, record.path, math.inf)


def _differences(record: _Record, device: Device) -> list[str]:
    """What is known, before anything is loaded, to be different now."""
    run, code, host = record.run, provenance.code(), provenance.host()
    said = [
        _different("commit", record.commit, code["commit"]),
        "" if run.get("diff", "") == code["diff"] else "the uncommitted changes to the code are others (then's are in the ledger)",
        _different("device", record.trial.place.rpartition(" ")[2], str(device.torch)),
        _different("threads", record.first["threads"], torch.get_num_threads()),
    ]
    then_versions, now_versions = run.get("versions", {}), provenance.versions()
    said += [_different(name, then_versions.get(name, ""), now_versions.get(name, "")) for name in {**then_versions, **now_versions}]
    then_host = run.get("host", {})
    said += [_different(name, then_host.get(name), host[name]) for name in ("cpu", "gpus", "os")]
    return [line for line in said if line]


def _train(record: _Record, task: Task, device: Device, wanted: int) -> tuple[Mapping[str, Any], list[str]]:
    """What the first `wanted` steps come to now, and how the data differ, which is printed as soon as they are loaded."""
    first, found, differences = FirstSteps(wanted), {}, []
    try:
        for progress in task.run(device):
            if progress.metadata:
                differences = _different_data(record.trial.metadata or {}, progress.metadata)
                _show(differences)
                print(f"training {wanted} steps on {device.torch}, threads: {torch.get_num_threads()}", flush=True)
            if found := first.take(progress):
                break
    except Diverged as error:
        print(f"diverged: {error}")
    return (found or first.so_far())[METADATA_KEY], differences


def _different_data(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    before, here = then.get("data") or {}, now.get("data") or {}
    said = [_different(f"data, {name}", before.get(name), here.get(name)) for name in {**before, **here}]
    said += [_different(name, then.get(name), now.get(name)) for name in ("parameters", "precision")]
    return [line for line in said if line]


def _different(what: str, then: Any, now: Any) -> str:
    return "" if then == now else f"{what}: {_shown(then)} then, {_shown(now)} now"


def _shown(value: Any) -> str:
    return "none" if value in ("", None, []) else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _show(differences: Sequence[str]) -> None:
    for line in differences:
        print(f"different: {line}", flush=True)


def _verdict(then: Mapping[str, Any], now: Mapping[str, Any], wanted: int) -> str:
    """Where the two part, in a line; "" where they agree."""
    for step, before, here in zip(then["steps"][:wanted], then["losses"], now["losses"], strict=False):
        if before != here:
            return f"they differ from step {step} on: loss {_loss(before)} there, {_loss(here)} here"
    if (done := len(now["steps"])) < wanted:
        return f"they differ: here it ended after {done} steps, there it went on"
    # No state was kept of a trial that diverged within its first steps.
    if wanted == len(then["steps"]) and then["state"] and then["state"] != now["state"]:
        same = "the losses are the same, but " if any(then["losses"]) else ""
        return f"they differ: {same}weights or the optimiser's state are others after {wanted} steps"
    return ""


def _loss(text: str | None) -> str:
    return "none" if text is None else repr(float.fromhex(text))


def _reason(differences: Sequence[str], device: Device) -> str:
    if differences:
        return "why that may be: what is different, above"
    if device.torch.type == "cuda":
        return "why that may be: kernels that add in any order, on a GPU; nothing that is recorded is different"
    return "nothing that is recorded is different, which would explain it"
