"""Training speed of trials that are trained as one model, compared with the same trials alone.

    python -m benchmarks.stacks forecasting [--members 4 16 32 64] [--rounds 3] [--seconds 5]
    python -m benchmarks.stacks sentiment --set model=lstm content=sample longest=50 precision=fp32

One process per core, each with one thread, trains at the same time: one trial alone, or a stack of 1/cores of the members. The unit is the
member-step: a step of one trial. The alternatives take turns; each round's ratio is to the trials alone of the same round, which is robust
against drift of the machine. Steps with an evaluation are not timed.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Any

import torch
import yaml

from ddl import yamlfile
from ddl.devices import Device
from ddl.progress import Diverged
from ddl.tasks.loading import load_task_class
from ddl.tasks.task import Task

CPU = Device(torch.device("cpu"))
WARM_UP = 3

ENDLESS = {"epochs": 1000, "env_steps": 10_000_000}
"""Hyperparameters with which a trial lasts longer than its measurement."""


def make(name: str, seed: int, changed: dict[str, Any]) -> Task:
    """The task of the YAML `name`, with some of its values changed."""
    values = yaml.safe_load((yamlfile.FOLDER / "task" / f"{name}.yaml").read_text(encoding="utf-8"))
    endless = {name: value for name, value in ENDLESS.items() if name in values}
    return load_task_class(values.pop("class"))(**values | endless | {"seed": seed} | changed)


def steps(tasks: list[Task]) -> Iterator[bool]:
    """Train the tasks, stacked if they are several; yields True after a step that may be timed."""
    if len(tasks) == 1:
        for progress in tasks[0].run(CPU):
            yield not progress.metrics
        return
    for step in type(tasks[0]).run_stacked(tasks, CPU, [None] * len(tasks)):
        diverged = [one for one in step.values() if isinstance(one, Diverged)]
        assert not diverged, diverged
        yield not any(one.metrics for one in step.values() if not isinstance(one, Diverged))


def train(name: str, seeds: list[int], changed: dict[str, Any], seconds: float, ready: Barrier, speeds: SimpleQueue) -> None:
    """Report the member-steps per second of one process."""
    torch.set_num_threads(1)
    run = steps([make(name, seed, changed) for seed in seeds])
    for _ in range(WARM_UP + 1):
        next(run)
    ready.wait()
    began = before = time.perf_counter()
    timed, count = 0.0, 0
    while before - began < seconds:
        counts = next(run)
        now = time.perf_counter()
        if counts:
            timed, count = timed + now - before, count + 1
        before = now
    speeds.put(len(seeds) * count / timed)
    ready.wait()  # keep every core busy until all processes are timed


def speed(name: str, members: int, processes: int, changed: dict[str, Any], seconds: float) -> float:
    """Member-steps per second of all processes, each with its part of `members` trials."""
    context = multiprocessing.get_context("spawn")
    ready, speeds = context.Barrier(processes), context.SimpleQueue()
    seeds = [list(range(number, members, processes)) for number in range(processes)]
    running = [context.Process(target=train, args=(name, part, changed, seconds, ready, speeds)) for part in seeds]
    for process in running:
        process.start()
    for process in running:
        process.join()
        assert process.exitcode == 0, "a process failed"
    return sum(speeds.get() for _ in running)


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--members", type=int, nargs="+", default=[4, 16, 32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="hyperparameters to change")
    given = parser.parse_args()
    changed = {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in given.set)}
    processes = len(os.sched_getaffinity(0))
    kinds = [members for members in given.members if members > processes]
    alone: list[float] = []
    stacked: dict[int, list[float]] = {members: [] for members in kinds}
    for number in range(given.rounds):
        for members in [processes, *kinds] if number % 2 == 0 else [*reversed(kinds), processes]:
            measured = speed(given.task, members, processes, changed, given.seconds)
            (alone if members == processes else stacked[members]).append(measured)
    print(f"torch {torch.__version__}, {processes} processes of one thread, {given.task} {' '.join(given.set)}, n {given.rounds}")
    print(f"load {os.getloadavg()[0]:.1f} at the end, medians; member-steps/s")
    print(f"{'members':>8} {'steps/s':>10} {'ratio':>7} {'min':>7} {'max':>7}")
    print(f"{'alone':>8} {statistics.median(alone):10.1f}")
    for members, values in stacked.items():
        ratios = [value / base for value, base in zip(values, alone, strict=True)]
        print(f"{members:8} {statistics.median(values):10.1f} {statistics.median(ratios):7.2f} {min(ratios):7.2f} {max(ratios):7.2f}")


if __name__ == "__main__":
    main()
