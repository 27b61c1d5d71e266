"""Runs a trial in a worker process: turns a task's `Progress` into reports and checkpoints. Both executors use it."""

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

from ddl.devices import Device, Strategy, lost_another_rank
from ddl.latency.measure import measure_or_explain
from ddl.precision import Timings, candidates, error_line, prepare_process, ran_eagerly, time_candidates
from ddl.progress import Diverged, Progress, State
from ddl.storage.trials import TrialStore
from ddl.sweeps.first_steps import STEPS, FirstSteps
from ddl.tasks.task import Task
from ddl.telemetry.describe import describe_device
from ddl.telemetry.device_sampler import DeviceSampler
from ddl.telemetry.usage import Usage
from ddl.trial_report import TrialReport

REPORT_EVERY_S = 1.0
"""Seconds between reports without a measurement. Measurements are reported at once."""

PROBE_STEPS = 8

CHECKPOINTED = ("step", "total_steps", "epoch", "elapsed_s", "metrics", "metadata")
"""Fields of a measured report that a checkpoint contains."""


RESTARTED = ("preempted", "out_of_memory")
"""Kinds of a last report after which the trial starts again from its newest checkpoint."""


@dataclass(frozen=True)
class Assignment:
    """A trial as a worker receives it: the task, its resources and the folder for its files.

    `cpus` and `gpus` are per worker; `min_workers` to `num_workers` workers train the trial. `changed` are hyperparameters that
    population based training changed during the run; `task` has them already. `keep_measured`: if not 0, store a checkpoint at
    every measurement, and keep those of the last steps, by this fraction of all steps. `url`: copy of the trial's folder in an object store, or empty. `latency`: how to time the trained model
    (`ddl.latency`).
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
    keep_measured: float = 0.0
    url: str = ""
    latency: str = "none"


def run_trial(assignment: Assignment, device: Device, preemption_requested: Callable[[], bool] = lambda: False) -> Iterator[TrialReport]:
    """Run a trial from its newest checkpoint to its end, yielding reports. The last one has the kind `ended`.

    Once `preemption_requested()` is true, the trial finishes the current step, stores a checkpoint and yields a last report of
    the kind `preempted`. A trial that runs out of memory with a fraction of a GPU yields a last report of the kind `out_of_memory`.

    If several processes train the trial, each runs this function with its own `device`; only the reports of rank 0 count.
    A measurement is yielded, and so recorded, before the checkpoint that contains it is stored. A resume therefore may measure
    a step again, but never skips one. A trial that raises ends as `failed` and does not affect other trials. Raises if another
    rank of the same trial died, since that is not an error of the trial.
    """
    prepare_process(getattr(assignment.task, "precision", ""))
    url = assignment.url if device.rank == 0 else ""
    with TrialStore(assignment.folder, assignment.trial_id, url) as store:
        step, saved = device.broadcast(store.newest() if device.rank == 0 else None) or (0, None)
        report = TrialReport(assignment.trial_id, "alive", step=step, elapsed_s=saved["elapsed_s"] if saved else 0.0)
        changed = {"changed": dict(assignment.changed)} if assignment.changed else {}
        yield replace(report, kind="started", place=_place(device), metadata={**changed, "device": describe_device(device.torch)})
        if url and saved:
            # The ledger's copy may be older than the checkpoint's. The ledger skips measurements that it has.
            for measurement in saved.get("measured", []):
                yield replace(report, kind="measured", **measurement)
        for last in _TrialRun(assignment, device, saved, report, store).reports(preemption_requested):
            if last.kind in RESTARTED or last.kind == "ended":
                store.finish()
                if url:
                    yield replace(report, kind="measured", metadata={"only_here": store.not_uploaded or None})
            yield last


class _TrialRun:
    """The training of a trial from a checkpoint to its end, with its clock, device sampler and history of measurements."""

    def __init__(self, assignment: Assignment, device: Device, saved: State | None, report: TrialReport, store: TrialStore):
        """`saved` is the state of the checkpoint or None, `report` the template for all reports."""
        self._assignment, self._device, self._saved, self._report, self._store = assignment, device, saved, report, store
        self._measured: list[dict[str, Any]] = list(saved.get("measured", [])) if saved else []
        # A checkpoint without usage still has the elapsed time.
        usage = Usage.of(saved["usage"]) if saved and saved.get("usage") else Usage(report.elapsed_s)
        self._sampler = DeviceSampler(device, assignment.cpus, min(assignment.gpus, 1), usage)
        self._first_steps = FirstSteps(0 if saved else STEPS)
        self._clock_offset = report.elapsed_s - time.monotonic()
        self._reported_s = self._stored_s = report.elapsed_s
        self._progress: Progress | None = None
        self._unsaved = False

    def _elapsed_s(self) -> float:
        """Training time in seconds, including earlier attempts."""
        return self._clock_offset + time.monotonic()

    def reports(self, preemption_requested: Callable[[], bool]) -> Iterator[TrialReport]:
        """Train to the end and yield the reports after `started`."""
        assignment, device = self._assignment, self._device
        with self._sampler:
            try:
                for progress in assignment.task.run(device, self._saved["task"] if self._saved else None):
                    yield from self._report_progress(progress)
                    _check_finite(progress.metrics)
                    due = device.rank == 0 and self._report.elapsed_s - self._stored_s >= assignment.checkpoint_every_s
                    due, preempted = device.any_rank(due, preemption_requested())
                    store_measured = assignment.keep_measured > 0 and bool(progress.metrics)
                    if store_measured or due or preempted:
                        self._store_checkpoint(progress)
                    if store_measured:
                        yield replace(self._report, kind="stored", metrics=dict(progress.metrics))
                    if preempted:
                        yield replace(self._report, kind="preempted", reason=f"{socket.gethostname()} was preempted")
                        return
                if self._progress is not None and self._unsaved:
                    self._store_checkpoint(self._progress)
                status, reason = "finished", "its model was compiled too often, so parts of it ran eagerly" if ran_eagerly() else ""
            except Diverged as error:
                if self._first_steps.unfinished:
                    metadata = {"total_steps": self._report.total_steps, **self._first_steps.so_far()}
                    yield replace(self._report, kind="measured", metadata=metadata)
                status, reason = "diverged", str(error)
            except Exception as error:
                if device.world_size > 1 and lost_another_rank(error):
                    raise
                traceback.print_exc()
                status, reason = "failed", _reason(error)
                if isinstance(error, torch.OutOfMemoryError) and 0 < assignment.gpus < 1:
                    larger = f"out of memory with gpus={assignment.gpus:g}, starts again with gpus={larger_fraction(assignment.gpus):g}"
                    yield replace(self._report, kind="out_of_memory", reason=larger)
                    return
        yield from self._end(status, reason)

    def _report_progress(self, progress: Progress) -> Iterator[TrialReport]:
        """Write figures and texts, and yield a report if there is something to record or the last report is a second old."""
        self._progress, self._unsaved = progress, True
        self._report = replace(
            self._report, step=progress.step, total_steps=progress.total_steps, epoch=progress.epoch, elapsed_s=self._elapsed_s()
        )
        if self._device.rank == 0:
            _write_files(self._assignment.folder / "figures", progress.figures)
            _write_files(self._assignment.folder / "samples", {name: text.encode() for name, text in progress.texts.items()})
        if metadata := {**progress.metadata, **self._first_steps.take(progress)}:
            metadata["total_steps"] = progress.total_steps
        if progress.metrics or metadata:
            self._report = replace(self._report, usage=self._sampler.metrics())
            measured = replace(self._report, kind="measured", metrics=dict(progress.metrics), metadata=metadata)
            yield measured
            self._measured.append({name: getattr(measured, name) for name in CHECKPOINTED})
        elif self._report.elapsed_s - self._reported_s >= REPORT_EVERY_S:
            yield self._report
        else:
            return
        self._reported_s = self._report.elapsed_s

    def _store_checkpoint(self, progress: Progress) -> None:
        """Store the state. Collective: every rank calls it, rank 0 writes."""
        state = {"elapsed_s": self._elapsed_s(), "usage": self._sampler.state(), "measured": self._measured, "task": progress.state()}
        if self._device.rank == 0:
            keep = self._assignment.keep_measured
            self._store.store(progress.step, state, progress.step - round(keep * progress.total_steps) if keep else None)
        self._stored_s, self._unsaved = self._elapsed_s(), False

    def _end(self, status: str, reason: str) -> Iterator[TrialReport]:
        """Time the trained model and yield the last report."""
        device, finished = self._device, status == "finished"
        # If one of several workers failed, a collective sum would wait for it for ever.
        usage = self._sampler.metrics() if finished or device.world_size == 1 else self._report.usage
        metrics = {"time/train_s": self._report.elapsed_s} if finished else {}
        # A sharded model is not timed: gathering it would need all ranks.
        if finished and self._progress is not None and device.rank == 0 and not device.sharded:
            precision = getattr(self._assignment.task, "precision", "fp32")
            prepare_process("")  # inference in fp32 is timed without TF32
            latencies = measure_or_explain(self._progress.predictor, device, self._assignment.latency, precision)
            metrics |= latencies.metrics
            if latencies.metadata:
                yield replace(self._report, kind="measured", metadata={"latency": latencies.metadata})
        yield replace(self._report, kind="ended", status=status, reason=reason, metrics={**metrics, **usage}, usage=usage)


def time_trial(
    assignment: Assignment, device: Device, precisions: list[str] | None, window_s: float, ready: Callable[[], None] = lambda: None
) -> Timings:
    """Timing probes of the trial's first steps in each precision (None: all candidates for the device), fastest first.

    `window_s` and `ready` as in `time_candidates`. A task without a `precision` is timed once, under the name "". A trial that
    raises has no probe, only failures: a failing probe must not fail the whole plan.
    """
    task = assignment.task
    names = [""]
    if hasattr(task, "precision"):
        names = [task.precision] if task.precision != "auto" else precisions or candidates(device)
    try:
        return time_candidates(lambda name: with_precision(task, name).run(device), names, device, PROBE_STEPS, window_s, ready)
    except Exception as error:  # noqa: BLE001  the trial itself will raise it again and end as failed
        traceback.print_exc()
        return Timings([], {names[0]: error_line(error)})


def with_precision(task: Task, name: str) -> Task:
    """The task with `precision: auto` replaced by `name`; any other task unchanged."""
    return replace(task, precision=name or "fp32") if getattr(task, "precision", None) == "auto" else task  # type: ignore[call-arg]


def device_of(assignment: Assignment, gpu: int = 0) -> Device:
    """The device of a trial that this process trains alone: the CPU, or the GPU with this index among those that it sees.

    Also limits torch to the trial's cores.
    """
    use_cores(assignment.cpus)
    if not assignment.gpus:
        # With num_gpus=0 Ray leaves all GPUs visible (ray#62492).
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return Device(torch.device("cpu"))
    return Device(torch.device("cuda", gpu))


def use_cores(cpus: int) -> None:
    """Limit torch's threads, and the processes that compile, to this number."""
    torch.set_num_threads(cpus)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(cpus)  # read when the compiler is imported


def larger_fraction(gpus: float) -> float:
    """The fraction of a GPU for a trial that ran out of memory with `gpus`."""
    return min(2 * gpus, 1.0)


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


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
