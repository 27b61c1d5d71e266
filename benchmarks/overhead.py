"""What watching a sweep costs it: the device sampler and the ledger against neither.

    python benchmarks/overhead.py [--pairs 5] [--trials 2] [--epochs 3] [--train-limit 1024]

The same trials of the classification task train in this process, one after the other, once watched (a sampler beside each, every
report into a ledger, as a sweep does) and once not (no sampler, reports dropped); checkpoints are stored in both. The two take
turns, and so does who begins; what is reported is the ratio within each pair, of wall time and of this process's CPU time. On a
machine with other work its noise is larger than what is looked for, so the direct costs are printed first: of one reading in CPU
time, of which there is one a second, and of recording one epoch in wall time, which a trial waits for.
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import psutil
import torch

from ddl import config
from ddl.ledger import Ledger, TrialRow
from ddl.sweeps import space, worker
from ddl.sweeps.executors import InlineExecutor
from ddl.sweeps.space import Trial
from ddl.sweeps.worker import Assignment, with_precision
from ddl.telemetry import nvml
from ddl.telemetry.cpu import LOOK_EVERY_S, ProcessTree
from ddl.telemetry.device_sampler import EVERY_S
from ddl.trial_report import TrialReport

AIM = 0.01


class Idle:
    """In the sampler's place: reads nothing."""

    def __init__(self, *arguments: object):
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def metrics(self) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, Any]:
        return {}


def watched(trials: list[Trial], assignments: list[Assignment], folder: Path) -> None:
    rows = [TrialRow(t.trial_id, t.position, t.configuration, t.swept, t.hyperparameters, t.task.seed) for t in trials]
    with Ledger.create(folder, {}, rows) as ledger, InlineExecutor() as place:
        for report in place.run(assignments, 1):
            if report.kind == "ended":
                assert any(name.startswith("device/") for name in report.metrics), "the sampler measured nothing"
            ledger.record(report)


def unwatched(trials: list[Trial], assignments: list[Assignment], folder: Path) -> None:
    with mock.patch.object(worker, "DeviceSampler", Idle), InlineExecutor() as place:
        for report in place.run(assignments, 1):
            assert report.status in ("", "finished"), report.reason


def timed(way: Callable[[list[Trial], list[Assignment], Path], None], trials: list[Trial], cpus: int, gpus: float) -> tuple[float, float]:
    """Seconds, of wall time and of CPU time."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tasks = [dataclasses.replace(trial, task=with_precision(trial.task, "")) for trial in trials]
        assignments = [Assignment(t.trial_id, t.task, 1, cpus, gpus, folder / "trials" / t.trial_id, 60.0) for t in tasks]
        began = time.perf_counter(), time.process_time()
        way(trials, assignments, folder)
        return time.perf_counter() - began[0], time.process_time() - began[1]


def cost_ms(call: Callable[[], object], clock: Callable[[], float], times: int) -> float:
    call()
    began = clock()
    for _ in range(times):
        call()
    return 1000 * (clock() - began) / times


def direct() -> Iterator[str]:
    """Lines."""
    cpu = ProcessTree(1, 0.0)
    reading = cost_ms(lambda: cpu.read(0.0), time.thread_time, 2000)
    looking = cost_ms(lambda: cpu.read(0.0, last=True), time.thread_time, 50) - reading
    yield f"a reading of the CPU and of memory: {reading:.3f} ms"
    yield f"looking for children, every {LOOK_EVERY_S:g} s: {looking:.2f} ms ({len(psutil.pids())} processes on the machine)"
    every_second = reading / EVERY_S + looking / LOOK_EVERY_S
    uuid = nvml.gpu_uuid(torch.device("cuda", 0)) if torch.cuda.is_available() else None
    gpu = nvml.find_gpu(uuid, 1.0) if uuid else None
    if gpu:
        each = cost_ms(lambda: gpu.read(time.monotonic()), time.thread_time, 100)
        gpu.close()
        every_second += each / EVERY_S
        yield f"a reading of the GPU: {each:.3f} ms"
    else:
        yield "a reading of the GPU: not measured, there is none"
    yield f"the sampler, together: {every_second:.2f} ms of CPU time a second, {every_second / 10:.3f}% of one core"
    with tempfile.TemporaryDirectory() as scratch:
        row = TrialRow("trial", 0, "none", {}, {}, 0)
        metrics = {f"val/{number}": 0.5 for number in range(6)}
        measured = TrialReport("trial", "measured", step=1, epoch=1, elapsed_s=1.0, metrics=metrics)
        with Ledger.create(Path(scratch), {}, [row]) as ledger:
            each = cost_ms(lambda: ledger.record(measured), time.perf_counter, 100)
    yield f"recording an epoch, six metrics: {each:.2f} ms of wall time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--train-limit", type=int, default=1024)
    given = parser.parse_args()
    problems: list[str] = []
    size = [f"seeds={given.trials}", f"task.epochs={given.epochs}", f"task.train_limit={given.train_limit}", "task.augmentation=none"]
    sweep = config.compose_sweep("augmentation", size, "sample", problems)
    trials = space.expand_trials(sweep, problems) if sweep else []
    assert not problems, problems
    cpus, gpus = len(os.sched_getaffinity(0)), float(torch.cuda.is_available())
    print(f"torch {torch.__version__}, {cpus} cores, {torch.cuda.get_device_name(0) if gpus else 'no GPU'}, {len(trials)} trials a sweep")
    for line in direct():
        print(line, flush=True)
    timed(unwatched, trials[:1], cpus, gpus)  # the first one loads the data and warms up
    ratios: dict[str, list[float]] = {"wall": [], "CPU": []}
    for number in range(given.pairs):
        ways = [watched, unwatched] if number % 2 else [unwatched, watched]
        seconds = {way: timed(way, trials, cpus, gpus) for way in ways}
        told = []
        for (kind, found), mine, bare in zip(ratios.items(), seconds[watched], seconds[unwatched], strict=True):
            found.append(mine / bare)
            told.append(f"{kind} time watched {mine:.2f} s, not {bare:.2f} s, ratio {found[-1]:.3f}")
        print(f"pair {number + 1}: {'; '.join(told)}", flush=True)
    for kind, found in ratios.items():
        ends = f"min {min(found):.3f}, max {max(found):.3f}, n {len(found)}"
        print(f"{kind} time, watched to not watched: median {statistics.median(found):.3f}, {ends}; at most {1 + AIM:g} is aimed at")


if __name__ == "__main__":
    main()
