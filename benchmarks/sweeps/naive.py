"""The naive baseline: Ray Tune, a trial per core, data loaders, eager fp32 and W&B, as the libraries' tutorials combine them.

    python -m benchmarks.sweeps.naive TRIALS.json --out FOLDER

Images that are augmented are padded by reflection once and transformed one by one with torchvision; other data are prepared once.
Data loaders have no workers of their own, because every core trains a trial. Each trial has a process of its own, as is Tune's
default, so torchvision and gymnasium are imported only by trials that use them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
import wandb
from ray import tune
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import ConcatDataset, DataLoader, Dataset, TensorDataset

from benchmarks.sweeps import workloads
from benchmarks.sweeps.workloads import Metrics, Problem, Trial
from ddl.data.series import Windows
from ddl.data.splits import Examples
from ddl.data.tokenised_texts import TokenisedTexts


@dataclass
class Texts(Dataset):
    """Token ids and labels of texts."""

    texts: TokenisedTexts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start, length = self.texts.starts[index], self.texts.lengths[index]
        return self.texts.ids[start : start + length], self.texts.targets[index]


def pad(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A batch of texts, padded with 0."""
    texts, targets = zip(*items, strict=True)
    return pad_sequence(texts, batch_first=True), torch.stack(targets)


def plain(problem: Problem, examples: Examples) -> Dataset:
    """The examples, prepared once and not augmented."""
    if isinstance(examples, TokenisedTexts):
        return Texts(examples)
    return TensorDataset(problem.prepare(examples.inputs), examples.targets)


def train_supervised(task: str, trial: Trial) -> Iterator[Metrics]:
    """Train one trial; yields the metrics of each epoch."""
    if (metrics := workloads.closed_form(task, trial)) is not None:
        yield metrics
        return
    problem = workloads.build(task, trial)
    model, collate = problem.model, pad if task == "Sentiment" else None
    train, val = plain(problem, problem.train), plain(problem, problem.val)
    augmented = trial.get("augmentation", "none") != "none"
    if augmented:
        from benchmarks.sweeps.augmented_images import AugmentedImages

        data: Dataset = AugmentedImages(problem.train, trial["augmentation"])
    else:
        data = ConcatDataset([train] * problem.train.repeats) if isinstance(problem.train, Windows) else train
    train_loader = DataLoader(data, problem.batch_size, shuffle=True, collate_fn=collate)
    whole_loader = DataLoader(train, 4 * problem.batch_size, collate_fn=collate)
    val_loader = DataLoader(val, 4 * problem.batch_size, collate_fn=collate)
    optimiser = problem.optimiser(model.parameters())
    scheduler = LinearLR(optimiser, 1.0, 0.0, problem.epochs * len(train_loader)) if problem.linear_decay else None
    for _ in range(problem.epochs):
        model.train()
        for inputs, targets in train_loader:
            optimiser.zero_grad()
            problem.loss(model, problem.prepare(inputs) if augmented else inputs, targets).backward()
            optimiser.step()
            if scheduler:
                scheduler.step()
        model.eval()
        with torch.no_grad():
            yield problem.evaluate(model, whole_loader, val_loader)


def train(task: str, trial: Trial) -> Iterator[Metrics]:
    """Train one trial; yields the metrics of each evaluation."""
    if task == "CartPole":
        from benchmarks.sweeps.agent import train_step_by_step

        return train_step_by_step(trial)
    return train_supervised(task, trial)


def train_trial(config: dict[str, Any]) -> None:
    """The function that Tune calls for each trial."""
    task, trial, metric = config["task"], config["trial"], config["metric"]
    torch.set_num_threads(1)
    run = wandb.init(mode="offline", project=config["sweep"], dir=config["folder"], config=trial, group=trial["configuration"])
    measured: list[Metrics] = []
    for metrics in train(task, trial):
        measured.append(metrics)
        run.log(metrics)
        tune.report(metrics | {"best": workloads.best(metric, measured)})
    run.finish()


def main() -> None:
    """Train all trials and write the report."""
    workload, out = workloads.arguments()
    ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, log_to_driver=False)
    space = {name: workload[name] for name in ("task", "sweep", "metric")} | {"folder": str(out)}
    tuner = tune.Tuner(
        tune.with_resources(train_trial, {"cpu": 1}),
        param_space=space | {"trial": tune.grid_search(workload["trials"])},
        run_config=tune.RunConfig(storage_path=str(Path(out) / "tune"), verbose=0),
    )
    results = tuner.fit()
    failed = [result.error for result in results if result.error]
    if failed:
        raise RuntimeError(f"{len(failed)} trials failed, the first with: {failed[0]}")
    trials = [(result.config["trial"], result.metrics["best"]) for result in results]
    workloads.write_report(out, workload, [(trial["configuration"], trial["seed"], value) for trial, value in trials])


if __name__ == "__main__":
    main()
