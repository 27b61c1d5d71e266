"""Speedup of two workers that train one trial, compared with one worker at the same global batch.

    python benchmarks/workers.py [--rounds 3] [--workers 2] [--strategy ddp]

The trial is the classification task at its default widths in fp32, batches of 128, no augmentation. Each worker is a process with
one thread (gloo between them, as on a cluster of CPUs), so two workers have twice the cores of one and the ratio is at most 2. One
and several workers take turns; the time covers training steps only, after warm-up, and the ratio is of two speeds in one round.

The losses of both are compared too. Several workers add in another order, and the rounding differences grow from step to step, as
they do between two memory layouts in one process. So the largest relative difference is printed for the first steps and for all.
"""

import argparse
import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch

from ddl import config
from ddl.devices import Device
from ddl.strategy import Strategy
from ddl.sweeps import space
from ddl.tasks.task import Task

WARM_UP, STEPS, FIRST = 3, 20, 4


def train(task: Task, workers: int, strategy: Strategy) -> tuple[float, list[float]]:
    """Train with `workers` workers: (steps/s, loss of each step)."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = Path(folder) / "rendezvous"
        processes = [context.Process(target=_work, args=(task, rank, workers, strategy, rendezvous, results)) for rank in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0, "a worker failed"
    speed, losses = results.get()
    return speed, losses


def _work(task: Task, rank: int, workers: int, strategy: Strategy, rendezvous: Path, results: SimpleQueue) -> None:
    torch.set_num_threads(1)
    if workers > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=workers)
    device = Device(torch.device("cpu"), rank, workers, strategy)
    losses, began = [], 0.0
    for progress in task.run(device):
        if progress.step == WARM_UP:
            began = time.perf_counter()
        if progress.loss is not None:
            losses.append((device.sum(progress.loss.clone()) / workers).item())
        if progress.step == WARM_UP + STEPS:
            break
    speed = STEPS / (time.perf_counter() - began)
    if rank == 0:
        results.put((speed, losses))
    if workers > 1:
        torch.distributed.destroy_process_group()


def main() -> None:
    """Run the benchmark and print the ratios and the differences of the losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--strategy", choices=("ddp", "fsdp"), default="ddp")
    given = parser.parse_args()
    problems: list[str] = []
    sweep = config.compose_sweep("augmentation", ["seeds=1", "task.augmentation=none", "task.precision=fp32"], "sample", problems)
    assert sweep is not None, problems
    (trial,) = space.expand_trials(sweep, problems)
    task = dataclasses.replace(trial.task, epochs=1000)  # type: ignore[call-arg]
    print(f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores, {given.rounds} rounds of {STEPS} steps, {given.strategy}")
    ratios, first, all_steps = [], [], []
    for number in range(given.rounds):
        one, losses = train(task, 1, given.strategy)
        several, losses_of_several = train(task, given.workers, given.strategy)
        ratios.append(several / one)
        differences = [abs(a - b) / abs(a) for a, b in zip(losses, losses_of_several, strict=True)]
        first.append(max(differences[:FIRST]))
        all_steps.append(max(differences))
        print(f"{number + 1}: 1 worker {one:.2f} steps/s, {given.workers} workers {several:.2f}, ratio {ratios[-1]:.2f}", flush=True)
    spread = f"min {min(ratios):.2f}, max {max(ratios):.2f}, n {len(ratios)}"
    print(f"throughput, {given.workers} workers / 1 worker: ratio median {statistics.median(ratios):.2f}, {spread}")
    print(f"losses: largest relative difference {max(first):.1e} in {FIRST} steps, {max(all_steps):.1e} in {WARM_UP + STEPS}")


if __name__ == "__main__":
    main()
