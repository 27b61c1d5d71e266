"""The tuned baseline: one Ray actor per core for all trials, data in memory, batched augmentation and the faster number format.

    python -m benchmarks.sweeps.tuned TRIALS.json --out FOLDER

An actor keeps imports and data from trial to trial. Batches are taken by indexing, and texts of similar length form a batch. The
convolutional and dense networks are trained channels_last. Where ddl may choose the precision, networks are trained in bf16 if a few steps
are faster in it than in fp32.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray
import torch
from ray.util import ActorPool
from torch import Tensor

from benchmarks.sweeps import workloads
from benchmarks.sweeps.workloads import Metrics, Trial
from ddl.data.augment import STRENGTHS
from ddl.data.splits import Examples, Split
from ddl.devices import Device
from ddl.precision_setup import candidates

CHUNK = 1024
"""Examples per evaluation batch."""


class Trainer:
    """A supervised trial: its model, optimiser and data in memory."""

    def __init__(self, task: str, trial: Trial, bf16: bool):
        problem = workloads.build(task, trial)
        self.problem, self.bf16 = problem, bf16
        self.augment = STRENGTHS[trial.get("augmentation", "none")]
        self.augments = self.augment != STRENGTHS["none"]
        self.model = problem.model.to(memory_format=torch.channels_last) if isinstance(problem.train, Split) else problem.model
        self.train, self.val = self._prepared(problem.train), self._prepared(problem.val)
        self.source = problem.train if self.augments else self.train
        self.optimiser = problem.optimiser(self.model.parameters(), fused=True)
        self.lr = self.optimiser.param_groups[0]["lr"]
        self.steps = problem.epochs * -(-len(self.source) // problem.batch_size)
        self.done = 0

    def _prepared(self, examples: Examples) -> Examples:
        if not isinstance(examples, Split):
            return examples
        return replace(examples, inputs=self.problem.prepare(examples.inputs).contiguous(memory_format=torch.channels_last))

    def step(self, indices: Tensor) -> None:
        """Train on the examples `indices`."""
        inputs, targets, *_ = self.source.batch(indices)
        if self.augments:
            inputs = self.problem.prepare(self.augment(inputs.float())).contiguous(memory_format=torch.channels_last)
        if self.problem.linear_decay:
            self.optimiser.param_groups[0]["lr"] = self.lr * (1 - self.done / self.steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = self.problem.loss(self.model, inputs, targets)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.done += 1

    def epochs(self, seed: int) -> Iterator[Metrics]:
        """Train all epochs; yields the metrics of each."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.problem.epochs):
            self.model.train()
            for indices in self.source.order(generator, self.problem.batch_size).split(self.problem.batch_size):
                self.step(indices)
            self.model.eval()
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                yield self.problem.evaluate(self.model, _in_order(self.train), _in_order(self.val))


def _in_order(examples: Examples) -> Iterator[tuple[Tensor, Tensor]]:
    for indices in torch.arange(len(examples)).split(CHUNK):
        inputs, targets, *_ = examples.batch(indices)
        yield inputs, targets


@ray.remote(num_cpus=1)
class Worker:
    """Trains one trial after another."""

    def __init__(self, task: str, metric: dict[str, str]):
        torch.set_num_threads(1)
        self.task, self.metric = task, metric

    def bf16_is_faster(self, trial: Trial) -> bool:
        """Time a few steps of `trial` in fp32 and in bf16, unless the CPU only emulates bf16, which takes many times as long."""
        if not any("bf16" in precision for precision in candidates(Device(torch.device("cpu")))):
            return False
        seconds = []
        for bf16 in (False, True):
            trainer, times = Trainer(self.task, trial, bf16), []
            indices = torch.arange(min(trial["batch_size"], len(trainer.train)))
            for _ in range(4):
                began = time.perf_counter()
                trainer.step(indices)
                times.append(time.perf_counter() - began)
            seconds.append(min(times[1:]))
        return seconds[1] < seconds[0]

    def train(self, trial: Trial, bf16: bool) -> tuple[str, int, float]:
        """Train `trial`; returns its configuration, its seed and its best metric."""
        metrics = workloads.closed_form(self.task, trial)
        if metrics is not None:
            measured = [metrics]
        elif self.task == "CartPole":
            from benchmarks.sweeps.agent import train_batched

            measured = list(train_batched(trial))
        else:
            measured = list(Trainer(self.task, trial, bf16).epochs(trial["seed"]))
        return trial["configuration"], trial["seed"], workloads.best(self.metric, measured)


def choose_bf16(worker: Any, trials: list[Trial]) -> bool:
    """True if the precision of the trials is open, and the last network is faster in bf16."""
    networks = [trial for trial in trials if trial.get("precision") == "auto" and trial.get("method") != "pca"]
    return bool(networks) and ray.get(worker.bf16_is_faster.remote(networks[-1]))


def main() -> None:
    """Train all trials and write the report."""
    workload, out = workloads.arguments()
    ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, log_to_driver=False)
    workers = [Worker.remote(workload["task"], workload["metric"]) for _ in range(len(os.sched_getaffinity(0)))]
    bf16 = choose_bf16(workers[0], workload["trials"])
    rows = ActorPool(workers).map_unordered(lambda worker, trial: worker.train.remote(trial, bf16), workload["trials"])
    workloads.write_report(out, workload, list(rows))


if __name__ == "__main__":
    main()
