"""What both executors run where a trial runs: the one consumer of a task's `Progress`."""

import math
import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ddl import checkpoints
from ddl.devices import Device
from ddl.precision import Probe, candidates, probe
from ddl.progress import Diverged, Progress
from ddl.tasks.task import Task
from ddl.telemetry import latency

REPORT_EVERY_S = 1.0
"""Between signs of life; measurements are reported as they come."""

PROBE_STEPS = 8


@dataclass(frozen=True)
class Assignment:
    """A trial as a worker gets it: what to compute, with how much, and where its files go.

    `cpus` and `gpus` are each worker's, where several (`num_workers`) train the one trial. `latency` is how closely to time
    what came of it (`telemetry.latency.take`).
    """

    trial_id: str
    task: Task
    num_workers: int
    cpus: int
    gpus: float
    folder: Path
    checkpoint_every_s: float
    latency: str = "none"


@dataclass(frozen=True)
class Report:
    """What a worker says of a trial.

    `started`: from `step` on. `alive`: nothing to record. `measured`: `metrics` and `facts`. `ended`: `status` and `reason`,
    and the last metrics. `elapsed_s` is the training time over all attempts.
    """

    trial_id: str
    kind: Literal["started", "alive", "measured", "ended"]
    step: int = 0
    total_steps: int = 0
    epoch: int | None = None
    elapsed_s: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    status: str = ""
    reason: str = ""
    place: str = ""


def run_trial(assignment: Assignment, device: Device) -> Iterator[Report]:
    """Run a trial from its newest checkpoint to its end, yielding reports; the last has the kind `ended`.

    Where several processes train it, each runs this, with its own `device`: all yield, the first one's reports count.
    A measurement is yielded, and so recorded by the consumer, before the checkpoint that contains it is stored: a resume
    measures again what was lost, and never skips it. A trial that raises ends as failed: it stops no other.
    """
    trial_id, folder = assignment.trial_id, assignment.folder / "checkpoints"
    found = checkpoints.newest(folder, trial_id)
    step, saved = found if found else (0, None)
    before_s = saved["elapsed_s"] if saved else 0.0
    began = time.monotonic()
    yield Report(trial_id, "started", step=step, elapsed_s=before_s, place=f"{socket.gethostname()} {device.torch}")
    last = Report(trial_id, "alive", step=step, elapsed_s=before_s)
    reported = stored = began
    unsaved: Progress | None = None
    final: Progress | None = None

    def store(progress: Progress) -> None:
        state = {"elapsed_s": before_s + time.monotonic() - began, "task": progress.state()}
        if device.rank == 0:
            checkpoints.store(folder, trial_id, progress.step, state)

    try:
        for progress in assignment.task.run(device, saved["task"] if saved else None):
            now = time.monotonic()
            unsaved = final = progress
            last = replace(
                last, step=progress.step, total_steps=progress.total_steps, epoch=progress.epoch, elapsed_s=before_s + now - began
            )
            if device.rank == 0:
                _keep(assignment.folder / "figures", progress.figures)
                _keep(assignment.folder / "samples", {name: text.encode() for name, text in progress.texts.items()})
            if progress.metrics or progress.facts:
                facts = {"total_steps": progress.total_steps, **progress.facts} if progress.facts else {}
                yield replace(last, kind="measured", metrics=dict(progress.metrics), facts=facts)
                reported = now
                _check_finite(progress.metrics)
            elif now - reported >= REPORT_EVERY_S:
                yield last
                reported = now
            if device.agree(now - stored >= assignment.checkpoint_every_s):
                store(progress)
                stored, unsaved = time.monotonic(), None
        if unsaved is not None:
            store(unsaved)
        latencies = latency.Findings()
        if final is not None and device.rank == 0:
            latencies = latency.take(final.predictor, device, assignment.latency, getattr(assignment.task, "precision", "fp32"))
        if latencies.facts:
            yield replace(last, kind="measured", facts={"latency": latencies.facts})
        yield replace(last, kind="ended", status="finished", metrics={"time/train_s": last.elapsed_s, **latencies.metrics})
    except Diverged as error:
        yield replace(last, kind="ended", status="diverged", reason=str(error))
    except Exception as error:  # noqa: BLE001  whatever it is, it is this trial's alone, and recorded with its place in the code
        traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
        yield replace(last, kind="ended", status="failed", reason=reason)


def probe_trial(assignment: Assignment, precisions: list[str] | None) -> list[Probe]:
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
        return probe(lambda name: with_precision(task, name).run(device), names, device, PROBE_STEPS)
    except Exception:  # noqa: BLE001  into the log; the trial itself will say it again and end as failed
        traceback.print_exc()
        return []


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


def _check_finite(metrics: Mapping[str, float]) -> None:
    wrong = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        raise Diverged(", ".join(wrong))


def _keep(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
