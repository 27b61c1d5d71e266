"""Profile of a training step of a sweep, by default the augmentation sweep's without augmentation, on one core.

    python benchmarks/step.py [--sweep regularisation --configuration dropout] [--precision 'bf16 channels_last'] [--first-step 10]
    python benchmarks/step.py --allocator-rounds 5

The first command prints milliseconds and GFLOP/s of a step, without the profiler, and the operations in which a step spends its time, from
torch's profiler. Arithmetic is that of matrix products and convolutions (`torch.utils.flop_counter`), a multiplication and an addition
counted as two. Freed memory is kept (`ddl.allocator`), as in a sweep. The second command compares that with glibc's defaults: in turn, each in a
process of its own.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from ddl import config
from ddl.allocator import keep_freed_memory
from ddl.devices import Device
from ddl.precision_setup import prepare_process
from ddl.progress import Progress
from ddl.sweeps import space

ROWS = 15


def steps_of(sweep_name: str, configuration: str, precision: str, first_step: int) -> tuple[Iterator[Progress], int]:
    """The steps of a trial at the sample scale that never evaluates, from `first_step` on, and the batch size."""
    problems: list[str] = []
    overrides = ["seeds=1", f"configurations={configuration}", f"task.precision={precision!r}", "task.epochs=100"]
    sweep = config.compose_sweep(sweep_name, overrides, "sample", problems)
    assert sweep is not None, problems
    trial, *_ = space.expand_trials(sweep, problems)
    prepare_process(precision)
    run = trial.task.run(Device(torch.device("cpu")))
    for _ in range(first_step):
        next(run)
    return (progress for progress in run if not progress.metrics), trial.task.batch_size


def compare_allocators(rounds: int) -> None:
    """Print CPU time and page faults of a step with both allocators, and the ratio of the times of each round."""
    found: dict[str, list[tuple[float, float]]] = {"kept": [], "glibc": []}
    for _ in range(rounds):
        for name, results in found.items():
            command = [sys.executable, __file__, "--measure-with", name]
            printed = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}).stdout
            milliseconds, faults = map(float, printed.split())
            results.append((milliseconds, faults))
    print("| memory | CPU ms a step | page faults a step |\n|---|--:|--:|")
    for name, results in found.items():
        times, faults = ([result[column] for result in results] for column in (0, 1))
        print(f"| {name} | {statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f}) | {statistics.median(faults):,.0f} |")
    ratios = [other[0] / kept[0] for kept, other in zip(found["kept"], found["glibc"], strict=True)]
    print(f"\nglibc / kept: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {rounds} rounds")


def measure(given: argparse.Namespace) -> None:
    """Print the CPU milliseconds and the page faults of a step with one allocator."""
    run, _ = steps_of(given.sweep, given.configuration, given.precision, given.first_step)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(given.steps):
        next(run)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(1e3 * used_s / given.steps, (after.ru_minflt - before.ru_minflt) / given.steps)


def main() -> None:
    """Time the steps, count their arithmetic, and print the profile."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--sweep", default="augmentation")
    parse.add_argument("--configuration", default="none")
    parse.add_argument("--precision", default="bf16 channels_last")
    parse.add_argument("--first-step", type=int, default=10)
    parse.add_argument("--steps", type=int, default=20)
    parse.add_argument("--threads", type=int, default=1)
    parse.add_argument("--allocator-rounds", type=int, default=0)
    parse.add_argument("--measure-with", choices=("kept", "glibc"), help=argparse.SUPPRESS)
    given = parse.parse_args()
    if given.allocator_rounds:
        compare_allocators(given.allocator_rounds)
        return
    torch.set_num_threads(given.threads)
    if given.measure_with != "glibc":
        keep_freed_memory()
    if given.measure_with:
        measure(given)
        return
    run, batch = steps_of(given.sweep, given.configuration, given.precision, given.first_step)
    seconds = []
    for _ in range(given.steps):
        began = time.perf_counter()
        next(run)
        seconds.append(time.perf_counter() - began)
    step_s = statistics.median(seconds)
    with FlopCounterMode(display=False) as counter:
        next(run)
    flop = counter.get_total_flops()
    print(
        f"{given.sweep}, {given.configuration}, torch {torch.__version__}, {given.precision}, {given.threads} threads, batches of {batch}"
    )
    print(f"{1e3 * step_s:.1f} ms a step ({1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f}), {batch / step_s:.0f} images/s, ", end="")
    print(f"{flop / 1e9:.1f} GFLOP, {flop / step_s / 1e9:.0f} GFLOP/s")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(given.steps):
            next(run)
    rows = sorted(profiled.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    print("\n| operation | calls a step | ms a step | of the step |\n|---|--:|--:|--:|")
    for row in rows[:ROWS]:
        spent = row.self_cpu_time_total
        print(f"| {row.key} | {row.count / given.steps:.0f} | {spent / given.steps / 1e3:.2f} | {100 * spent / total:.1f}% |")


if __name__ == "__main__":
    main()
