"""What both executors run where a trial runs: the one consumer of a task's `Progress`."""

import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ddl import latency
from ddl.devices import Device, Strategy, lost_another_rank
from ddl.precision import TimingProbe, candidates, time_candidates
from ddl.progress import Diverged, Progress, State
from ddl.storage.trials import TrialStore
from ddl.sweeps.first_steps import STEPS, FirstSteps
from ddl.tasks.task import Task
from ddl.telemetry.device_sampler import DeviceSampler
from ddl.telemetry.usage import Usage
from ddl.trial_report import TrialReport

REPORT_EVERY_S = 1.0
"""Between signs of life; measurements are reported as they come."""

PROBE_STEPS = 8

CONTEXT_BYTES = 600e6
"""Of a process that uses CUDA at all, beside its tensors: kernels, libraries' workspaces. Some hundred MB, by library and GPU."""

RECORDED = ("step", "total_steps", "epoch", "elapsed_s", "metrics", "metadata")
"""Of a measurement: what a checkpoint keeps of it."""


@dataclass(frozen=True)
class Assignment:
    """A trial as a worker gets it: what to compute, with how much, and where its files go.

    `cpus` and `gpus` are each worker's, where several (from `min_workers` to `num_workers`) train the one trial. `changed` are
    hyperparameters that a search has given it since, already in `task`. With `store_measured` there is a checkpoint for every
    measurement. `url` is where its files are kept besides; empty for nowhere else. `latency` is how closely to time what came
    of it (`telemetry.latency.take`).
    """

    trial_id: str
    task: Task
    num_workers: int
    cpus: int
    gpus: float
    folder: Path
    checkpoint_every_s: float
    min_workers: int = 1
    strategy: Strategy = "ddp"
    changed: Mapping[str, Any] = field(default_factory=dict)
    store_measured: bool = False
    url: str = ""
    latency: str = "none"


def run_trial(assignment: Assignment, device: Device, leaving: Callable[[], bool] = lambda: False) -> Iterator[TrialReport]:
    """Run a trial from its newest checkpoint to its end, yielding reports; the last has the kind `ended`.

    Once `leaving` says that this process is to be taken away, the step under way is the last one: its state is stored, and the
    last report has the kind `preempted`.

    Where several processes train it, each runs this, with its own `device`: all yield, the first one's reports count.
    A measurement is yielded, and so recorded by the consumer, before the checkpoint that contains it is stored: a resume
    measures again what was lost, and never skips it. A trial that raises ends as failed: it stops no other. Raises where another
    process that trains it with this one was lost, which is no fault of the trial's.
    """
    url = assignment.url if device.rank == 0 else ""
    with TrialStore(assignment.folder, assignment.trial_id, url) as kept:
        found = device.broadcast(kept.newest() if device.rank == 0 else None)
        step, saved = found if found else (0, None)
        last = TrialReport(assignment.trial_id, "alive", step=step, elapsed_s=saved["elapsed_s"] if saved else 0.0)
        changed = {"changed": dict(assignment.changed)} if assignment.changed else {}
        yield replace(last, kind="started", place=_place(device), metadata=changed)
        if url and saved:
            # The ledger may have been lost after the checkpoint was copied; it takes nothing twice.
            for past in saved.get("measured", []):
                yield replace(last, kind="measured", **past)
        for report in _train(assignment, device, saved, last, kept, leaving):
            if report.kind in ("ended", "preempted"):
                kept.finish()
                if url:
                    yield replace(last, kind="measured", metadata={"only_here": kept.behind or None})
            yield report


def _train(
    assignment: Assignment, device: Device, saved: State | None, last: TrialReport, kept: TrialStore, leaving: Callable[[], bool]
) -> Iterator[TrialReport]:
    """The training itself, from the state `saved` on: everything after a trial's first report."""
    before_s = last.elapsed_s
    measured: list[dict[str, Any]] = list(saved.get("measured", [])) if saved else []
    used = saved.get("usage") if saved else None
    reported = stored = began = time.monotonic()
    unsaved: Progress | None = None
    # Of a checkpoint that says nothing of it, the time is known and no more.
    sampler = DeviceSampler(device, assignment.cpus, min(assignment.gpus, 1), Usage.of(used) if used else Usage(before_s))
    first = FirstSteps(0 if saved else STEPS)
    final: Progress | None = None

    def store(progress: Progress) -> None:
        elapsed_s = before_s + time.monotonic() - began
        state = {"elapsed_s": elapsed_s, "usage": sampler.state(), "measured": measured, "task": progress.state()}
        if device.rank == 0:
            kept.store(progress.step, state)

    with sampler:
        try:
            for progress in assignment.task.run(device, saved["task"] if saved else None):
                now = time.monotonic()
                unsaved = final = progress
                elapsed_s = before_s + now - began
                last = replace(last, step=progress.step, total_steps=progress.total_steps, epoch=progress.epoch, elapsed_s=elapsed_s)
                if device.rank == 0:
                    _keep(assignment.folder / "figures", progress.figures)
                    _keep(assignment.folder / "samples", {name: text.encode() for name, text in progress.texts.items()})
                if metadata := {**progress.metadata, **first.take(progress)}:
                    metadata["total_steps"] = progress.total_steps
                if progress.metrics or metadata:
                    last = replace(last, usage=sampler.metrics())
                    report = replace(last, kind="measured", metrics=dict(progress.metrics), metadata=metadata)
                    yield report
                    measured.append({name: getattr(report, name) for name in RECORDED})
                    reported = now
                    _check_finite(progress.metrics)
                elif now - reported >= REPORT_EVERY_S:
                    yield last
                    reported = now
                wanted = assignment.store_measured and bool(progress.metrics)
                due, told = device.any_rank(device.rank == 0 and now - stored >= assignment.checkpoint_every_s, leaving())
                if wanted or due or told:
                    store(progress)
                    stored, unsaved = time.monotonic(), None
                if wanted:
                    yield replace(last, kind="stored", metrics=dict(progress.metrics))
                if told:
                    yield replace(last, kind="preempted", reason=f"told to leave {socket.gethostname()}")
                    return
            if unsaved is not None:
                store(unsaved)
            status, reason, metrics = "finished", "", {"time/train_s": last.elapsed_s}
        except Diverged as error:
            if first.unfinished:
                yield replace(last, kind="measured", metadata={"total_steps": last.total_steps, **first.so_far()})
            status, reason, metrics = "diverged", str(error), {}
        except Exception as error:
            if device.world_size > 1 and lost_another_rank(error):
                raise
            # Whatever it is, it is this trial's alone, and recorded with its place in the code.
            traceback.print_exc()
            status, reason, metrics = "failed", _reason(error), {}
    # Of several workers one may have failed alone; the others would not join it in the sum.
    usage = sampler.metrics() if status == "finished" or device.world_size == 1 else last.usage
    # Who has a part of every parameter would need all others to put a model together.
    if status == "finished" and final is not None and device.rank == 0 and not device.sharded:
        latencies = latency.measure_or_explain(final.predictor, device, assignment.latency, getattr(assignment.task, "precision", "fp32"))
        metrics |= latencies.metrics
        if latencies.metadata:
            yield replace(last, kind="measured", metadata={"latency": latencies.metadata})
    yield replace(last, kind="ended", status=status, reason=reason, metrics={**metrics, **usage}, usage=usage)


def time_trial(assignment: Assignment, precisions: list[str] | None) -> list[TimingProbe]:
    """The trial's first steps in each of these precisions (None: all that are worth trying there), fastest first.

    A task without a choice of precision is timed as it is, under the name "". A trial that raises gives an empty list:
    it will fail when its turn comes, and until then the others are none of its business.
    """
    device = device_of(assignment)
    task = assignment.task
    names = [""]
    if hasattr(task, "precision"):
        names = [task.precision] if task.precision != "auto" else precisions or candidates(device)
    try:
        found = time_candidates(lambda name: with_precision(task, name).run(device), names, device, PROBE_STEPS)
        share = _memory_fraction(device) / len(names)  # all of them were there at once
        return [replace(one, memory_fraction=share) for one in found]
    except Exception:  # noqa: BLE001  into the log; the trial itself will say it again and end as failed
        traceback.print_exc()
        return []


def _memory_fraction(device: Device) -> float:
    """Of the GPU's memory: the most that this process had, and what CUDA itself takes for a process; 0 on a CPU."""
    if device.torch.type != "cuda":
        return 0.0
    return (torch.cuda.max_memory_reserved(device.torch) + CONTEXT_BYTES) / torch.cuda.mem_get_info(device.torch)[1]


def with_precision(task: Task, name: str) -> Task:
    """The task with its `precision` settled, where that was left open."""
    return replace(task, precision=name or "fp32") if getattr(task, "precision", None) == "auto" else task  # type: ignore[call-arg]


def device_of(assignment: Assignment) -> Device:
    """The device for a trial that this process trains alone, and as many threads as it was given cores."""
    torch.set_num_threads(assignment.cpus)
    if not assignment.gpus:
        # Without this a process that was given no GPU still sees them all.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return Device(torch.device("cpu"))
    return Device(torch.device("cuda", 0))


def _place(device: Device) -> str:
    workers = "" if device.world_size == 1 else f" ({device.world_size} workers)"
    return f"{socket.gethostname()} {device.torch}{workers}"


def _reason(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"


def _check_finite(metrics: Mapping[str, float]) -> None:
    wrong = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        raise Diverged(", ".join(wrong))


def _keep(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
