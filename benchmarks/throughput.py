"""Training speed of the classification task in images/s, compared with a conventional PyTorch implementation.

    python benchmarks/throughput.py [--rounds 5] [--augmentation none light aggressive]

Both train the same network (ddl.models.cnn.ConvNet, default widths) with Adam at the same batch size on the same images, on all
cores of the machine. The conventional implementation is eager fp32 in the default layout with a DataLoader that applies
torchvision transforms to PIL images one by one; it is timed with zero and two DataLoader workers, and the faster one counts.
ddl is timed twice: one trial per core as in a sweep, with their speeds added; and one trial on all cores. The implementations take
turns. The result is the ratio within each round, which is robust against drift of the machine.
"""

import argparse
import dataclasses
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ddl import config
from ddl.data import sources
from ddl.data.augment import STRENGTHS
from ddl.devices import Device
from ddl.models.cnn import ConvNet
from ddl.precision_setup import candidates
from ddl.sweeps import space
from ddl.sweeps.probe import PROBE_STEPS
from ddl.tasks.classification import Classification
from ddl.tasks.task import with_precision
from ddl.timing_probe import time_candidates

SECONDS = 6.0  # seconds of each measurement, after warm-up
WARM_UP = 5

CPU = Device(torch.device("cpu"))


class Images(Dataset):
    """PIL images and labels, as in torchvision's data sets."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, transform: v2.Transform):
        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in inputs]
        self.targets = targets.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.targets[index]


def speed(steps: Iterator[int]) -> float:
    """Images/s of an iterator that trains one batch per item and yields its size."""
    for _ in range(WARM_UP):
        next(steps)
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        images += next(steps)
    return images / (time.perf_counter() - began)


def ddl_speed(task: Classification, trials: int, threads: int) -> float:
    """Images/s of `trials` concurrent trials, summed."""
    context = multiprocessing.get_context("spawn")
    ready, speeds = context.Barrier(trials), context.SimpleQueue()
    processes = [context.Process(target=_train, args=(task, threads, ready, speeds)) for _ in range(trials)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, "a trial failed"
    return sum(speeds.get() for _ in processes)


def _train(task: Classification, threads: int, ready: Barrier, speeds: SimpleQueue) -> None:
    torch.set_num_threads(threads)
    task = dataclasses.replace(task, epochs=1000)
    run = task.run(CPU)
    next(run)

    def steps() -> Iterator[int]:
        for progress in run:
            # The step at the end of an epoch includes an evaluation.
            if not progress.metrics:
                yield task.batch_size

    training = steps()
    next(training)
    ready.wait()
    speeds.put(speed(training))
    ready.wait()  # keep every core busy until all trials are timed


def conventional_speed(task: Classification, workers: int) -> float:
    """Images/s of the conventional implementation with `workers` DataLoader workers."""
    data = sources.load_data_set(task.data_set, task.content)
    strength = STRENGTHS[task.augmentation]
    moves = []
    if strength != STRENGTHS["none"]:
        degrees = math.degrees(strength.rotation)
        moves.append(v2.RandomAffine(degrees, (strength.translation,) * 2, (1 - strength.zoom, 1 + strength.zoom)))
    if strength.flip:
        moves.append(v2.RandomHorizontalFlip(strength.flip))
    transform = v2.Compose([*moves, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(data.mean, data.std)])
    loader = DataLoader(
        Images(data.train.inputs, data.train.targets, transform),
        task.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    model = ConvNet(3, 32, 10, task.widths, task.convolutions, task.dense, task.dropout, task.batch_norm_layers, task.initialisation)
    optimiser = torch.optim.Adam(model.parameters(), task.lr)
    criterion = torch.nn.CrossEntropyLoss()

    def steps() -> Iterator[int]:
        while True:
            for images, targets in loader:
                optimiser.zero_grad()
                criterion(model(images), targets).backward()
                optimiser.step()
                yield len(images)

    return speed(steps())


def main() -> None:
    """Run the benchmark and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--augmentation", nargs="+", default=["none", "light", "aggressive"], choices=list(STRENGTHS))
    given = parser.parse_args()
    problems: list[str] = []
    sweep = config.compose_sweep("augmentation", ["seeds=1"], "sample", problems)
    assert sweep is not None, problems
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    print(f"torch {torch.__version__}, {cores} cores, {given.rounds} rounds, images/s")
    for trial in space.expand_trials(sweep, problems):
        task = trial.task
        assert isinstance(task, Classification)
        if task.augmentation not in given.augmentation:
            continue
        best = time_candidates(lambda name, task=task: with_precision(task, name).run(CPU), candidates(CPU), CPU, PROBE_STEPS).probes[0]
        modes = {f"{cores} trials, one core each": (cores, 1), "1 trial, all cores": (1, cores)}
        ratios: dict[str, list[float]] = {mode: [] for mode in modes}
        for number in range(given.rounds):
            ours = {mode: ddl_speed(with_precision(task, best.precision), *how) for mode, how in modes.items()}
            theirs = {workers: conventional_speed(task, workers) for workers in (0, 2)}
            for mode, value in ours.items():
                ratios[mode].append(value / max(theirs.values()))
            ddl_text = ", ".join(f"{value:.0f} ({mode})" for mode, value in ours.items())
            conventional = ", ".join(f"{value:.0f} ({workers} workers)" for workers, value in theirs.items())
            print(f"{task.augmentation} {number + 1}: ddl in {best.precision} {ddl_text}; conventional {conventional}", flush=True)
        for mode, values in ratios.items():
            spread = f"min {min(values):.2f}, max {max(values):.2f}, n {len(values)}"
            print(f"{task.augmentation}: {mode}: ratio median {statistics.median(values):.2f}, {spread}", flush=True)


if __name__ == "__main__":
    main()
