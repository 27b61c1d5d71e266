"""How much faster the best checked form of a model answers than eager fp32.

    python benchmarks/latency.py [--rounds 5] [--networks convnet efficientnet_lite0 vgg16] [--batches 1 32] [--cpu-time]

`ddl.latency` tries every form at each batch size and chooses the fastest that agrees with fp32. Then that one and
eager fp32 take turns, and what is reported is the ratio of their medians within each round: machines drift. Random weights
(no call's time depends on them); the small ConvNet at 32 px, the others at --size. With --cpu-time the clock of the calls
is one thread's own, for a machine that others use at the same time.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch

from ddl import latency
from ddl.devices import Device
from ddl.learners.learner import Pipeline
from ddl.models.cnn import ConvNet
from ddl.models.preprocess import Normalise
from ddl.models.transfer import TransferNetwork, make_body, make_head
from ddl.progress import Predictor

CPU = Device(torch.device("cpu"))
SECONDS = 1.0
"""Of single calls, for each contestant and round."""


def predictor(name: str, size: int) -> Predictor:
    torch.manual_seed(0)
    if name == "convnet":
        module = Pipeline(Normalise((0.5,) * 3, (0.25,) * 3), ConvNet(3, 32, 10, [32, 64, 128], 2, 128, 0.0, 0, "glorot"))
        return Predictor(module.eval(), torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8))
    known = make_body(name, size)
    module = Pipeline(known.normalise, TransferNetwork(known.module, make_head(known.width, [512], 0.5, 10), frozen=False))
    return Predictor(module.eval(), torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8))


@torch.no_grad()
def compare(subject: Predictor, best: str, batch: int, rounds: int, clock: Callable[[], float]) -> tuple[float, list[float]]:
    """The median (ms) of the best form's calls, and how many times as fast as eager fp32 it was in each round."""
    inputs = subject.example.repeat(batch, 1, 1, 1)
    runs = [latency.prepare_variant(name, subject.module, inputs) for name in (latency.REFERENCE, best)]
    for run in runs:
        run(inputs)

    def median_s(run: Callable[[torch.Tensor], torch.Tensor]) -> float:
        run(inputs)
        calls: list[float] = []
        while len(calls) < latency.MIN_CALLS or sum(calls) < SECONDS:
            began = clock()
            run(inputs)
            calls.append(clock() - began)
        return statistics.median(calls)

    medians = [[median_s(run) for run in runs] for _ in range(rounds)]
    return 1e3 * statistics.median(ours for _, ours in medians), [eager / ours for eager, ours in medians]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: a thread for each core")
    parser.add_argument("--networks", nargs="+", default=["convnet", "efficientnet_lite0", "vgg16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--forms", nargs="+", default=list(latency.FORMS[1:]))
    parser.add_argument("--cpu-time", action="store_true", help="time one thread's own work; sets --threads 1")
    given = parser.parse_args()
    given.threads = 1 if given.cpu_time else given.threads
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, {given.rounds} rounds")
    depth = latency.LatencyBudget(tuple(given.batches), (latency.REFERENCE, *given.forms), calls_s=1.0, blocks_s=0.1, limit_s=60.0)
    for name in given.networks:
        subject = predictor(name, given.size)
        found = latency.measure_latency(subject, CPU, depth)
        for batch in given.batches:
            best = found.metadata["best"][str(batch)]
            ms, ratios = compare(subject, best, batch, given.rounds, time.thread_time if given.cpu_time else time.perf_counter)
            spread = f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)})"
            deviation = found.metadata["deviation"][best]
            print(f"{name}, batch {batch}: {best}, {ms:.2f} ms: {spread}; {deviation:.1g} from fp32", flush=True)
        print(f"  forms, p50 ms: {found.metadata['p50_ms']}; left out: {found.metadata['left_out']}", flush=True)


if __name__ == "__main__":
    main()
