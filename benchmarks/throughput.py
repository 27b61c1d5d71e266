"""Training speed of the classification task against the usual way to write it.

    python benchmarks/throughput.py [--rounds 5] [--augmentation none light aggressive]

Both train the same network (ddl.models.cnn.ConvNet, default widths) with Adam at the same batch size on the same images, on
all cores of the machine. The peer is eager fp32 in the default layout, fed by a DataLoader that applies torchvision
transforms to PIL images one by one; it is timed with no and with two DataLoader workers, and the faster of the two counts.
Ours is timed twice: as a sweep trains, one trial on each core, their speeds added up; and one trial on all cores.
The contestants take turns, and what is reported is the ratio within each round: machines drift.
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
from ddl.precision import time_candidates
from ddl.sweeps import space
from ddl.sweeps.worker import PROBE_STEPS, candidates, with_precision
from ddl.tasks.classification import Classification

SECONDS = 6.0
"""Of each measurement, after warming up."""

WARM_UP = 5

CPU = Device(torch.device("cpu"))


class Images(Dataset):
    """PIL images and class numbers, as torchvision's data sets give them."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, transform: v2.Transform):
        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in inputs]
        self.targets = targets.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.targets[index]


def speed(steps: Iterator[int]) -> float:
    """Images/s of an iterator that trains one batch per item and gives its size."""
    for _ in range(WARM_UP):
        next(steps)
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        images += next(steps)
    return images / (time.perf_counter() - began)


def ours(task: Classification, trials: int, threads: int) -> float:
    """Images/s of so many trials side by side, all together."""
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
            # An epoch's end evaluates, which is no training.
            if not progress.metrics:
                yield task.batch_size

    training = steps()
    next(training)
    ready.wait()
    speeds.put(speed(training))
    ready.wait()  # a core that is idle before the others are done would flatter them


def peer(task: Classification, workers: int) -> float:
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
        best = time_candidates(lambda name, task=task: with_precision(task, name).run(CPU), candidates(CPU), CPU, PROBE_STEPS)[0]
        ways = {f"{cores} trials, a core each": (cores, 1), "1 trial, all cores": (1, cores)}
        ratios: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(given.rounds):
            mine = {way: ours(with_precision(task, best.precision), *how) for way, how in ways.items()}
            theirs = {workers: peer(task, workers) for workers in (0, 2)}
            for way, value in mine.items():
                ratios[way].append(value / max(theirs.values()))
            told = ", ".join(f"{value:.0f} ({way})" for way, value in mine.items())
            against = ", ".join(f"{value:.0f} ({workers} workers)" for workers, value in theirs.items())
            print(f"{task.augmentation} {number + 1}: ours in {best.precision} {told}; peer {against}", flush=True)
        for way, found in ratios.items():
            ends = f"min {min(found):.2f}, max {max(found):.2f}, n {len(found)}"
            print(f"{task.augmentation}: {way}: ratio median {statistics.median(found):.2f}, {ends}", flush=True)


if __name__ == "__main__":
    main()
