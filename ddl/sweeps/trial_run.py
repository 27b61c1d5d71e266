"""A trial in a worker process: turns the steps of its task into reports and checkpoints."""

import contextlib
import math
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddl.devices import Device
from ddl.durable import CannotWrite, replace_file, writing
from ddl.latency.measure import measure_or_explain
from ddl.precision_setup import prepare_process
from ddl.progress import Progress, State
from ddl.redaction import Redactor
from ddl.storage.trials import TrialStore
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.first_steps import STEPS, FirstSteps
from ddl.tasks.task import precision_of
from ddl.telemetry.describe import describe_device
from ddl.telemetry.usage import Usage
from ddl.trial_errors import TRIAL_ERRORS
from ddl.trial_report import RESTARTED, TrialReport, check_metric_names

REPORT_EVERY_S = 1.0
"""Seconds between reports without a measurement. Measurements are reported at once."""

MOST = 2**53
"""Largest step or epoch. Readers that parse numbers as float64 lose digits of larger ones."""

CHECKPOINTED = ("step", "total_steps", "epoch", "elapsed_s", "metrics", "metadata")
"""Fields of a measured report that a checkpoint contains."""


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
        self._total_steps: int | None = None  # as last recorded
        self._unsaved = False
        self._measured_at: dict[str, int] = {}

    def start(self) -> Iterator[TrialReport]:
        """Yield the first reports."""
        metadata: dict[str, Any] = {"device": describe_device(self.device.torch)}
        if self.assignment.changed:
            metadata["changed"] = dict(self.assignment.changed)
        metadata["stacked"] = self._stacked if self._stacked > 1 else None  # None: an earlier attempt may have been in a stack
        yield replace(self.report, kind="started", place=_place(self.device), metadata=metadata)
        # The ledger may be older than the checkpoint: restored from a copy, or in an object store. It skips measurements that it has.
        # A trial of a population may continue from another one's checkpoint.
        if self.device.rank == 0 and not self.assignment.changed:
            for measurement in self._measured:
                yield replace(self.report, kind="measured", **measurement)

    def take(self, progress: Progress) -> Iterator[TrialReport]:
        """Write figures and texts, and yield a report if there is something to record or the last report is a second old."""
        check_metric_names(progress.metrics)
        for name, number in (("step", progress.step), ("epoch", progress.epoch or 0)):
            if not 0 <= number <= MOST:
                raise ValueError(f"the trial yielded the {name} {number}. It must be from 0 to {MOST}.")
        for name in progress.metrics:
            if progress.step <= (last := self._measured_at.get(name, -1)):
                raise ValueError(
                    f"the trial measured {name} at step {progress.step} after step {last}. Steps must increase; a function counts them from 1 "
                    "or leaves `step` out."
                )
            self._measured_at[name] = progress.step
        self._progress, self._unsaved = progress, True
        self._taken_s = self._elapsed_s()
        if self.device.rank == 0 and (progress.figures or progress.texts):
            _write_files(self.assignment.folder / "figures", progress.figures)
            _write_files(
                self.assignment.folder / "samples", {name: Redactor().text(text).encode() for name, text in progress.texts.items()}
            )
        metadata = {**progress.metadata, **self._first_steps.take(progress)}
        if self._total_steps is None or (progress.metrics and progress.total_steps != self._total_steps):
            metadata["total_steps"] = self._total_steps = (
                progress.total_steps
            )  # at once: a resume compares trials at equal parts of their steps
        if not (progress.metrics or metadata) and self._taken_s - self._reported_s < REPORT_EVERY_S:
            return
        self._update_report()
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
        return (
            self._progress is not None
            and self._progress.state is not None
            and self._taken_s - self._stored_s >= self.assignment.checkpoint_every_s
        )

    def store_checkpoint(self) -> None:
        """Store the state, if the task has one. Collective: every rank calls it, rank 0 writes."""
        assert self._progress is not None
        if self._progress.state is None:
            return
        step, total_steps = self._progress.step, self._progress.total_steps
        state = {
            "elapsed_s": self._elapsed_s(),
            "usage": self._usage().state(),
            "measured": self._measured,
            "task": self._progress.state(),
        }
        if self.device.rank == 0:
            keep = self.assignment.keep_measured
            with writing(self.assignment.folder / "checkpoints"):
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
        if status in ("finished", "diverged") and self._first_steps.unfinished:
            metadata = {"total_steps": self.report.total_steps, **self._first_steps.so_far()}
            yield replace(self.report, kind="measured", metadata=metadata)
        # If one of several workers failed, a collective sum would wait for it for ever.
        usage = self._usage().metrics(device.world_size) if finished or device.world_size == 1 else self.report.usage
        metrics = {"time/train_s": self.report.elapsed_s} if finished else {}
        # A sharded model is not timed: gathering it would need all ranks.
        if finished and self._progress is not None and not device.sharded and self.assignment.latency != "none":
            if device.rank:
                with contextlib.suppress(*TRIAL_ERRORS):  # rank 0 has the same error, and reports it
                    self._progress.predictor()  # collective
            else:
                precision = precision_of(self.assignment.task) or "fp32"
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

    def finish(self, reports: Iterable[TrialReport], left_behind: str = "") -> Iterator[TrialReport]:
        """Pass on `reports`, and finish the uploads before the last one. `left_behind`: see `Isolation.restore`."""
        for report in reports:
            if report.kind in RESTARTED or report.kind == "ended":
                if left_behind:
                    yield replace(self.report, kind="measured", metadata={"left_behind": left_behind})
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


def open_store(assignment: Assignment, device: Device) -> TrialStore:
    """The store of the trial's checkpoints. Only rank 0 uploads."""
    return TrialStore(assignment.folder, assignment.trial_id, assignment.url if device.rank == 0 else "")


def cannot_write_report(last: TrialReport, error: CannotWrite) -> TrialReport:
    """The last report of a trial whose files cannot be written, after which the driver stops the sweep."""
    return replace(last, kind="cannot_write", error=(error.errno or 0, str(error.strerror), str(error.filename)))


def _place(device: Device) -> str:
    workers = "" if device.world_size == 1 else f" ({device.world_size} workers)"
    return f"{socket.gethostname()} {device.torch}{workers}"


def list_not_finite(metrics: Mapping[str, float]) -> str:
    """The metrics that are NaN or infinite, as text; "" if there are none."""
    return ", ".join(f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value))


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        with writing(folder / name):
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / name, content)
