"""Runs a trial in a worker process: turns a task's `Progress` into reports and checkpoints. Both executors use it."""

import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ddl.devices import Device, Strategy, lost_another_rank
from ddl.latency.measure import measure_or_explain
from ddl.precision import prepare_process, ran_eagerly
from ddl.progress import Diverged, Progress, State
from ddl.storage.trials import TrialStore
from ddl.sweeps.first_steps import STEPS, FirstSteps
from ddl.tasks.task import Task
from ddl.telemetry.describe import describe_device
from ddl.telemetry.device_sampler import DeviceSampler
from ddl.telemetry.usage import Usage
from ddl.trial_errors import TRIAL_ERRORS, error_place
from ddl.trial_report import TrialReport

REPORT_EVERY_S = 1.0
"""Seconds between reports without a measurement. Measurements are reported at once."""

CHECKPOINTED = ("step", "total_steps", "epoch", "elapsed_s", "metrics", "metadata")
"""Fields of a measured report that a checkpoint contains."""


RECORD_NOW = None
"""See `trial_reports`."""

RESTARTED = ("preempted", "out_of_memory")
"""Kinds of a last report after which the trial starts again from its newest checkpoint."""


@dataclass(frozen=True)
class Assignment:
    """A trial as a worker receives it: the task, its resources and the folder for its files.

    `cpus` and `gpus` are per worker; `min_workers` to `num_workers` workers train the trial. `changed` are hyperparameters that
    population based training changed during the run; `task` has them already. `keep_measured`: if not 0, store a checkpoint at
    every measurement, and keep those of the last steps, by this fraction of all steps. `url`: copy of the trial's folder in an
    object store, or empty. `latency`: how to time the trained model (`ddl.latency`).
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
    for report in trial_reports(assignment, device, preemption_requested):
        if report is not RECORD_NOW:
            yield report


def trial_reports(
    assignment: Assignment, device: Device, preemption_requested: Callable[[], bool]
) -> Generator[TrialReport | None, None, None]:
    """`run_trial` for a caller that records several reports at once.

    Yields `RECORD_NOW` where all reports so far have to be recorded before the next one is asked for: a checkpoint then contains them.
    """
    prepare_process(getattr(assignment.task, "precision", ""))
    with open_store(assignment, device) as store:
        saved = device.broadcast(store.newest() if device.rank == 0 else None)
        sampler = DeviceSampler(device, assignment.cpus, min(assignment.gpus, 1))
        trial = TrialRun(assignment, device, saved, store, sampler.usage)
        yield from trial.start()
        for report in _reports(trial, sampler, preemption_requested):
            if report is not RECORD_NOW and (report.kind in RESTARTED or report.kind == "ended"):
                yield from trial.finish([report])
            else:
                yield report


def _reports(trial: "TrialRun", sampler: DeviceSampler, preemption_requested: Callable[[], bool]) -> Iterator[TrialReport | None]:
    """Train the trial to its end and yield the reports after `started`."""
    assignment, device = trial.assignment, trial.device
    with sampler:
        try:
            for progress in assignment.task.run(device, trial.resume_state):
                yield from trial.take(progress)
                if not_finite := list_not_finite(progress.metrics):
                    raise Diverged(not_finite)
                due, preempted = device.any_rank(device.rank == 0 and trial.checkpoint_due(), preemption_requested())
                store_measured = assignment.keep_measured > 0 and bool(progress.metrics)
                if store_measured or due or preempted:
                    yield RECORD_NOW
                    trial.store_checkpoint()
                if store_measured:
                    yield replace(trial.report, kind="stored", metrics=dict(progress.metrics))
                if preempted:
                    yield trial.preempted()
                    return
            status, reason = "finished", "its model was compiled too often, so parts of it ran eagerly" if ran_eagerly() else ""
            yield RECORD_NOW
            trial.store_last()
        except Diverged as error:
            status, reason = "diverged", str(error)
        except TRIAL_ERRORS as error:
            if device.world_size > 1 and lost_another_rank(error):
                raise
            traceback.print_exc()
            status, reason = "failed", error_place(error)
            if isinstance(error, torch.OutOfMemoryError) and 0 < assignment.gpus < 1:
                larger = f"out of memory with gpus={assignment.gpus:g}, starts again with gpus={larger_fraction(assignment.gpus):g}"
                yield replace(trial.report, kind="out_of_memory", reason=larger)
                return
    yield from trial.end(status, reason)


def open_store(assignment: Assignment, device: Device) -> TrialStore:
    """The store of the trial's checkpoints. Only rank 0 uploads."""
    return TrialStore(assignment.folder, assignment.trial_id, assignment.url if device.rank == 0 else "")


class TrialRun:
    """A trial between its start and its end in this process: its reports, checkpoints, clock and measurements.

    `report` is the last report. `resume_state` is the task's state to continue from, None at the start.
    """

    def __init__(
        self,
        assignment: Assignment,
        device: Device,
        saved: tuple[int, State] | None,
        store: TrialStore,
        usage: Callable[[], Usage],
        stacked: int = 1,
    ):
        """`saved` is the trial's newest checkpoint. `usage` returns the device usage of this attempt. `stacked` trials are trained as
        one model."""
        step, state = saved or (0, None)
        elapsed_s = state["elapsed_s"] if state else 0.0
        self.assignment, self.device = assignment, device
        self.resume_state = state["task"] if state else None
        self.report = TrialReport(assignment.trial_id, "alive", step=step, elapsed_s=elapsed_s)
        self._store, self._stacked = store, stacked
        self._measured: list[dict[str, Any]] = list(state.get("measured", [])) if state else []
        # A checkpoint without usage still has the elapsed time.
        self._before = Usage.of(state["usage"]) if state and state.get("usage") else Usage(elapsed_s)
        self._usage_now = usage
        self._first_steps = FirstSteps(0 if state else STEPS, stacked)
        self._clock_offset = elapsed_s - time.monotonic()
        self._taken_s = self._reported_s = self._stored_s = elapsed_s
        self._progress: Progress | None = None
        self._unsaved = False

    def start(self) -> Iterator[TrialReport]:
        """Yield the first reports."""
        metadata: dict[str, Any] = {"device": describe_device(self.device.torch)}
        if self.assignment.changed:
            metadata["changed"] = dict(self.assignment.changed)
        if self._stacked > 1:
            metadata["stacked"] = self._stacked
        elif self.resume_state is not None:
            metadata["stacked"] = None  # an earlier attempt may have been in a stack
        yield replace(self.report, kind="started", place=_place(self.device), metadata=metadata)
        if self.assignment.url and self.device.rank == 0:
            # The ledger's copy may be older than the checkpoint's. The ledger skips measurements that it has.
            for measurement in self._measured:
                yield replace(self.report, kind="measured", **measurement)

    def take(self, progress: Progress) -> Iterator[TrialReport]:
        """Write figures and texts, and yield a report if there is something to record or the last report is a second old."""
        self._progress, self._unsaved = progress, True
        self._taken_s = self._elapsed_s()
        if self.device.rank == 0 and (progress.figures or progress.texts):
            _write_files(self.assignment.folder / "figures", progress.figures)
            _write_files(self.assignment.folder / "samples", {name: text.encode() for name, text in progress.texts.items()})
        metadata = {**progress.metadata, **self._first_steps.take(progress)}
        if not (progress.metrics or metadata) and self._taken_s - self._reported_s < REPORT_EVERY_S:
            return
        self._update_report()
        if metadata:
            metadata["total_steps"] = progress.total_steps
        if progress.metrics or metadata:
            self.report = replace(self.report, usage=self._usage().metrics(self.device.world_size))
            measured = replace(self.report, kind="measured", metrics=dict(progress.metrics), metadata=metadata)
            yield measured
            self._measured.append({name: getattr(measured, name) for name in CHECKPOINTED})
        else:
            yield self.report
        self._reported_s = self._taken_s

    def checkpoint_due(self) -> bool:
        """True if the last checkpoint is old enough for another."""
        return self._taken_s - self._stored_s >= self.assignment.checkpoint_every_s

    def store_checkpoint(self) -> None:
        """Store the state. Collective: every rank calls it, rank 0 writes."""
        assert self._progress is not None
        step, total_steps = self._progress.step, self._progress.total_steps
        state = {
            "elapsed_s": self._elapsed_s(),
            "usage": self._usage().state(),
            "measured": self._measured,
            "task": self._progress.state(),
        }
        if self.device.rank == 0:
            keep = self.assignment.keep_measured
            self._store.store(step, state, step - round(keep * total_steps) if keep else None)
        self._stored_s, self._unsaved = self._elapsed_s(), False

    def store_last(self) -> None:
        """Store the state after the last step, if it is not stored."""
        if self._unsaved:
            self.store_checkpoint()

    def preempted(self) -> TrialReport:
        """The last report of a trial whose process is preempted."""
        self._update_report()
        return replace(self.report, kind="preempted", reason=f"{socket.gethostname()} was preempted")

    def end(self, status: str, reason: str) -> Iterator[TrialReport]:
        """Time the trained model and yield the last reports."""
        device, finished = self.device, status == "finished"
        self._update_report()
        if status == "diverged" and self._first_steps.unfinished:
            metadata = {"total_steps": self.report.total_steps, **self._first_steps.so_far()}
            yield replace(self.report, kind="measured", metadata=metadata)
        # If one of several workers failed, a collective sum would wait for it for ever.
        usage = self._usage().metrics(device.world_size) if finished or device.world_size == 1 else self.report.usage
        metrics = {"time/train_s": self.report.elapsed_s} if finished else {}
        # A sharded model is not timed: gathering it would need all ranks.
        if finished and self._progress is not None and device.rank == 0 and not device.sharded:
            precision = getattr(self.assignment.task, "precision", "fp32")
            prepare_process("")  # inference in fp32 is timed without TF32
            latencies = measure_or_explain(self._progress.predictor, device, self.assignment.latency, precision)
            metrics |= latencies.metrics
            if latencies.metadata:
                yield replace(self.report, kind="measured", metadata={"latency": latencies.metadata})
        yield replace(self.report, kind="ended", status=status, reason=reason, metrics={**metrics, **usage}, usage=usage)

    def close(self) -> tuple[Assignment, TrialReport]:
        """Finish the uploads of a trial that another `TrialRun` continues; returns its assignment and last report."""
        self._store.finish()
        return self.assignment, self.report

    def finish(self, reports: Iterable[TrialReport]) -> Iterator[TrialReport]:
        """Pass on `reports`, and finish the uploads before the last one."""
        for report in reports:
            if report.kind in RESTARTED or report.kind == "ended":
                self._store.finish()
                if self.assignment.url and self.device.rank == 0:
                    yield replace(self.report, kind="measured", metadata={"only_here": self._store.not_uploaded or None})
            yield report

    def _elapsed_s(self) -> float:
        """Training time in seconds, including earlier attempts."""
        return self._clock_offset + time.monotonic()

    def _usage(self) -> Usage:
        return self._before.plus(self._usage_now())

    def _update_report(self) -> None:
        """Make the last step the report's."""
        if (progress := self._progress) is not None:
            self.report = replace(
                self.report, step=progress.step, total_steps=progress.total_steps, epoch=progress.epoch, elapsed_s=self._taken_s
            )


def stopped_report(last: TrialReport) -> TrialReport:
    """The last report of a trial that the scheduler stopped. `last` is the report before."""
    step = f" at step {last.step} of {last.total_steps}" if last.total_steps else ""
    return replace(last, kind="ended", status="stopped", reason=f"by the scheduler{step}", metrics=last.usage)


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


def list_not_finite(metrics: Mapping[str, float]) -> str:
    """The metrics that are NaN or infinite, as text; "" if there are none."""
    return ", ".join(f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value))


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
