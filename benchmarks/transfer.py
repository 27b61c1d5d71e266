"""Speedup of training only the head on cached features, compared with training all layers.

    python benchmarks/transfer.py [--rounds 5] [--size 64] [--networks efficientnet_lite0 vgg16]

Both are the task `transfer` on CIFAR-10's bundled sample, in fp32 at the same batch size. They take turns. The result is the ratio
of the median steps within each round, which is robust against drift of the machine, with the time of computing the features once.
The weights are random: the time of a step does not depend on them.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator

import torch
import yaml

from ddl import yamlfile
from ddl.devices import Device
from ddl.progress import Progress
from ddl.tasks.transfer import Transfer

CPU = Device(torch.device("cpu"))
STEPS = {"all": 4, "head": 100}  # steps timed in each round


def begin(network: str, size: int, trained: str) -> tuple[Iterator[Progress], float]:
    """Start a trial and train two steps; returns it and the seconds until its first step."""
    values = yaml.safe_load((yamlfile.FOLDER / "task" / "transfer.yaml").read_text())
    del values["class"]
    changed = {"data_set": "cifar10", "content": "sample", "train_limit": 512, "val_limit": 64, "size": size, "batch_size": 64}
    changed |= {"network": network, "weights": "none", "trained": trained, "epochs": 100_000, "precision": "fp32", "seed": 0}
    trial = Transfer(**values | changed).run(CPU)
    began = time.perf_counter()
    next(trial)
    start_s = time.perf_counter() - began
    next(trial)
    return trial, start_s


def step_s(trial: Iterator[Progress], steps: int) -> float:
    """Median seconds of `steps` steps, without steps that end in an evaluation."""
    times: list[float] = []
    while len(times) < steps:
        began = time.perf_counter()
        progress = next(trial)
        if not progress.metrics:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Run the benchmark and print a line per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one per core")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--networks", nargs="+", default=["efficientnet_lite0", "vgg16"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, {given.rounds} rounds, batches of 64 at {given.size} px, fp32")
    for network in given.networks:
        (full, _), (head, start_s) = begin(network, given.size, "all"), begin(network, given.size, "head")
        rounds = [(step_s(full, STEPS["all"]), step_s(head, STEPS["head"])) for _ in range(given.rounds)]
        ratios = [a / b for a, b in rounds]
        print(
            f"{network}: all layers {1e3 * statistics.median(a for a, _ in rounds):.1f} ms per step, "
            f"head {1e3 * statistics.median(b for _, b in rounds):.2f} ms: {statistics.median(ratios):.0f} times as fast "
            f"({min(ratios):.0f} to {max(ratios):.0f}, n = {len(ratios)}); start, with the features of 576 images: {start_s:.1f} s"
        )


if __name__ == "__main__":
    main()
