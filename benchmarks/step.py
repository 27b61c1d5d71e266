"""Profile of a training step of the augmentation sweep's network, on one core.

    python benchmarks/step.py [--precision 'bf16 channels_last'] [--augmentation none] [--steps 20] [--threads 1]

Prints milliseconds and GFLOP/s of a step, without the profiler, and the operations in which a step spends its time, from torch's
profiler. Arithmetic is that of matrix products and convolutions (`torch.utils.flop_counter`), a multiplication and an addition counted as two.
"""

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from ddl import config
from ddl.devices import Device
from ddl.progress import Progress
from ddl.sweeps import space

WARM_UP = 10
ROWS = 15


def steps_of(precision: str, augmentation: str) -> tuple[Iterator[Progress], int]:
    """The steps of a trial at the sample scale that never evaluates, after `WARM_UP` of them, and the batch size."""
    problems: list[str] = []
    overrides = ["seeds=1", f"task.augmentation={augmentation}", f"task.precision={precision!r}", "task.epochs=100"]
    sweep = config.compose_sweep("augmentation", overrides, "sample", problems)
    assert sweep is not None, problems
    (trial,) = space.expand_trials(sweep, problems)
    run = trial.task.run(Device(torch.device("cpu")))
    for _ in range(WARM_UP):
        next(run)
    return (progress for progress in run if not progress.metrics), trial.task.batch_size


def main() -> None:
    """Time the steps, count their arithmetic, and print the profile."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--precision", default="bf16 channels_last")
    parse.add_argument("--augmentation", default="none", choices=("none", "light", "aggressive"))
    parse.add_argument("--steps", type=int, default=20)
    parse.add_argument("--threads", type=int, default=1)
    given = parse.parse_args()
    torch.set_num_threads(given.threads)
    run, batch = steps_of(given.precision, given.augmentation)
    seconds = []
    for _ in range(given.steps):
        began = time.perf_counter()
        next(run)
        seconds.append(time.perf_counter() - began)
    step_s = statistics.median(seconds)
    with FlopCounterMode(display=False) as counter:
        next(run)
    flop = counter.get_total_flops()
    print(f"torch {torch.__version__}, {given.precision}, {given.threads} threads, batches of {batch}, augmentation {given.augmentation}")
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
