"""Speedup of the fastest variant of a model whose outputs agree with fp32, compared with eager fp32.

    python benchmarks/latency.py [--rounds 5] [--networks convnet efficientnet_lite0 vgg16] [--batches 1 32] [--cpu-time]

`ddl.latency` times every variant (precision, memory layout, compiled, exported) at each batch size and chooses the fastest that
agrees with fp32. That variant and eager fp32 then take turns. The result is the ratio of their medians within each round, which is
robust against drift of the machine. The weights are random: the time of a call does not depend on them. The small ConvNet gets
images of 32 px, the other networks of --size. With --cpu-time the clock is the thread's CPU time, for a machine with other work.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch

from ddl.devices import Device
from ddl.latency.budget import MIN_CALLS, REFERENCE, VARIANTS, LatencyBudget
from ddl.latency.measure import measure_latency
from ddl.latency.variants import prepare_variant
from ddl.learners.learner import Pipeline
from ddl.models.cnn import ConvNet
from ddl.models.preprocess import Normalise
from ddl.models.transfer import TransferNetwork, make_body, make_head
from ddl.progress import Predictor

CPU = Device(torch.device("cpu"))
SECONDS = 1.0  # seconds of single calls per variant and round


def predictor(name: str, size: int) -> Predictor:
    """The network `name` with random weights; `size` is the image size in px, except for the ConvNet."""
    torch.manual_seed(0)
    if name == "convnet":
        module = Pipeline(Normalise((0.5,) * 3, (0.25,) * 3), ConvNet(3, 32, 10, [32, 64, 128], 2, 128, 0.0, 0, "glorot"))
        return Predictor(module.eval(), torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8))
    known = make_body(name, size)
    module = Pipeline(known.normalise, TransferNetwork(known.module, make_head(known.width, [512], 0.5, 10), frozen=False))
    return Predictor(module.eval(), torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8))


@torch.no_grad()
def compare(subject: Predictor, best: str, batch: int, rounds: int, clock: Callable[[], float]) -> tuple[float, list[float]]:
    """Median call of variant `best` in ms, and its speedup over eager fp32 in each round."""
    inputs = subject.example.repeat(batch, 1, 1, 1)
    runs = [prepare_variant(name, subject.module, inputs) for name in (REFERENCE, best)]
    for run in runs:
        run(inputs)

    def median_s(run: Callable[[torch.Tensor], torch.Tensor]) -> float:
        run(inputs)
        calls: list[float] = []
        while len(calls) < MIN_CALLS or sum(calls) < SECONDS:
            began = clock()
            run(inputs)
            calls.append(clock() - began)
        return statistics.median(calls)

    medians = [[median_s(run) for run in runs] for _ in range(rounds)]
    return 1e3 * statistics.median(ours for _, ours in medians), [eager / ours for eager, ours in medians]


def main() -> None:
    """Run the benchmark and print a line per network and batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one per core")
    parser.add_argument("--networks", nargs="+", default=["convnet", "efficientnet_lite0", "vgg16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--forms", nargs="+", default=list(VARIANTS[1:]), help="variants to compare with fp32")
    parser.add_argument("--cpu-time", action="store_true", help="time the thread's own work; sets --threads 1")
    given = parser.parse_args()
    given.threads = 1 if given.cpu_time else given.threads
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, {given.rounds} rounds")
    budget = LatencyBudget(tuple(given.batches), (REFERENCE, *given.forms), calls_s=1.0, blocks_s=0.1, limit_s=60.0)
    for name in given.networks:
        subject = predictor(name, given.size)
        results = measure_latency(subject, CPU, budget)
        for batch in given.batches:
            best = results.metadata["best"][str(batch)]
            ms, ratios = compare(subject, best, batch, given.rounds, time.thread_time if given.cpu_time else time.perf_counter)
            speedup = f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)})"
            deviation = results.metadata["deviation"][best]
            print(f"{name}, batch {batch}: {best}, {ms:.2f} ms: {speedup}; deviation from fp32 {deviation:.1g}", flush=True)
        print(f"  p50 of the variants in ms: {results.metadata['p50_ms']}; left out: {results.metadata['left_out']}", flush=True)


if __name__ == "__main__":
    main()
