"""Overhead of the device sampler and the ledger: training with both compared with training with neither.

    python benchmarks/overhead.py [--pairs 5] [--trials 2] [--epochs 3] [--train-limit 1024]

The same trials of the classification task train in this process, one after the other: once recorded (a sampler per trial, every
report written to a ledger, as in a sweep) and once bare (no sampler, reports dropped). Both store checkpoints. The two take turns,
and the first one alternates. The result is the ratio within each pair, of wall time and of this process's CPU time. On a machine
with other work the noise exceeds the overhead, so direct costs are printed first: the CPU time of one reading, of which there is
one per second, and the wall time of recording an epoch, which a trial waits for.
"""

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import psutil
import torch

from ddl import config
from ddl.ledger import Ledger
from ddl.ledger_tables import TrialRow
from ddl.sweeps import space, worker
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.inline_executor import InlineExecutor
from ddl.sweeps.pack import Pack
from ddl.sweeps.space import Trial
from ddl.tasks.task import with_precision
from ddl.telemetry.cpu import FIND_CHILDREN_EVERY_S, ProcessTree
from ddl.telemetry.device_sampler import EVERY_S
from ddl.telemetry.gpu import find_gpu
from ddl.telemetry.nvml import gpu_uuid
from ddl.telemetry.usage import Usage
from ddl.trial_report import TrialReport

TARGET = 0.01  # target: overhead of at most 1%


def recorded(trials: list[Trial], assignments: list[Assignment], folder: Path) -> None:
    """Train the trials with the sampler and a ledger."""
    rows = [TrialRow(t.trial_id, t.position, t.configuration, t.swept, t.hyperparameters, t.task.seed) for t in trials]
    with Ledger.create(folder, {}, rows) as ledger, InlineExecutor() as executor:
        for reports in executor.run([Pack((assignment,)) for assignment in assignments], 1):
            for report in reports:
                if report.kind == "ended":
                    assert any(name.startswith("device/") for name in report.metrics), "the sampler measured nothing"
            ledger.record(reports)


def bare(trials: list[Trial], assignments: list[Assignment], folder: Path) -> None:
    """Train the trials without the sampler and a ledger."""
    sampler = mock.MagicMock()
    sampler.return_value.configure_mock(**{"usage.side_effect": Usage})
    with mock.patch.object(worker, "DeviceSampler", sampler), InlineExecutor() as executor:
        for reports in executor.run([Pack((assignment,)) for assignment in assignments], 1):
            assert all(report.status in ("", "finished") for report in reports), reports


def timed(train: Callable[[list[Trial], list[Assignment], Path], None], trials: list[Trial], cpus: int, gpus: float) -> tuple[float, float]:
    """Seconds of training the trials: (wall time, CPU time)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tasks = [dataclasses.replace(trial, task=with_precision(trial.task, "")) for trial in trials]
        assignments = [Assignment(t.trial_id, t.task, 1, cpus, gpus, folder / "trials" / t.trial_id, 60.0) for t in tasks]
        began = time.perf_counter(), time.process_time()
        train(trials, assignments, folder)
        return time.perf_counter() - began[0], time.process_time() - began[1]


def cost_ms(call: Callable[[], object], clock: Callable[[], float], times: int) -> float:
    """Mean ms of `times` calls by `clock`, after one warm-up call."""
    call()
    began = clock()
    for _ in range(times):
        call()
    return 1000 * (clock() - began) / times


def direct_costs() -> Iterator[str]:
    """Measure the costs of single readings and records; a line each."""
    cpu = ProcessTree(1, 0.0)
    reading = cost_ms(lambda: cpu.read(0.0), time.thread_time, 2000)
    search = cost_ms(lambda: cpu.read(0.0, last=True), time.thread_time, 50) - reading
    yield f"reading CPU and memory: {reading:.3f} ms"
    yield f"searching for children, every {FIND_CHILDREN_EVERY_S:g} s: {search:.2f} ms ({len(psutil.pids())} processes on the machine)"
    every_second = reading / EVERY_S + search / FIND_CHILDREN_EVERY_S
    uuid = gpu_uuid(torch.device("cuda", 0)) if torch.cuda.is_available() else None
    gpu = find_gpu(uuid, 1.0) if uuid else None
    if gpu:
        each = cost_ms(lambda: gpu.read(time.monotonic()), time.thread_time, 100)
        gpu.close()
        every_second += each / EVERY_S
        yield f"reading the GPU: {each:.3f} ms"
    else:
        yield "reading the GPU: not measured, there is no GPU"
    yield f"sampler in total: {every_second:.2f} ms of CPU time per second, {every_second / 10:.3f}% of one core"
    with tempfile.TemporaryDirectory() as scratch:
        row = TrialRow("trial", 0, "none", {}, {}, 0)
        metrics = {f"val/{number}": 0.5 for number in range(6)}
        measured = TrialReport("trial", "measured", step=1, epoch=1, elapsed_s=1.0, metrics=metrics)
        with Ledger.create(Path(scratch), {}, [row]) as ledger:
            each = cost_ms(lambda: ledger.record([measured]), time.perf_counter, 100)
    yield f"recording an epoch, six metrics: {each:.2f} ms of wall time"


def main() -> None:
    """Run the benchmark and print the ratios."""
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
    print(f"torch {torch.__version__}, {cpus} cores, {torch.cuda.get_device_name(0) if gpus else 'no GPU'}, {len(trials)} trials")
    for line in direct_costs():
        print(line, flush=True)
    timed(bare, trials[:1], cpus, gpus)  # warm-up: loads the data
    ratios: dict[str, list[float]] = {"wall": [], "CPU": []}
    for number in range(given.pairs):
        order = [recorded, bare] if number % 2 else [bare, recorded]
        seconds = {train: timed(train, trials, cpus, gpus) for train in order}
        parts = []
        for (kind, values), with_both, without in zip(ratios.items(), seconds[recorded], seconds[bare], strict=True):
            values.append(with_both / without)
            parts.append(f"{kind} time recorded {with_both:.2f} s, bare {without:.2f} s, ratio {values[-1]:.3f}")
        print(f"pair {number + 1}: {'; '.join(parts)}", flush=True)
    for kind, values in ratios.items():
        spread = f"min {min(values):.3f}, max {max(values):.3f}, n {len(values)}"
        print(f"{kind} time, recorded / bare: median {statistics.median(values):.3f}, {spread}; target: at most {1 + TARGET:g}")


if __name__ == "__main__":
    main()
