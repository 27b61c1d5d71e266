"""The training loop: trains a learner on one split, evaluates it on another, and yields `Progress` after every step.

The loop never reports, records or stores anything: its consumer does.
"""

import math
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddl.data.splits import Examples
from ddl.devices import Device, derive_seed, seed_step
from ddl.learners.learner import Learner
from ddl.progress import Diverged, Predictor, Progress, State

CHECK_EVERY = 20
"""Steps between two checks of the loss. Reading the loss synchronises the device, so it is not checked at every step."""

FORWARD_FRACTION = 1 / 3
"""The forward pass's fraction of a step: a backward pass takes about two forward passes, for weights' and inputs' gradients."""

BLOW_UP = 1e3
"""A loss this many times the first step's counts as diverged, even if it is finite."""


def fit(
    learner: Learner,
    train: Examples,
    val: Examples,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    device: Device,
    unit: str,
    metadata: Mapping[str, Any],
    resume: State | None = None,
) -> Iterator[Progress]:
    """Train `learner` for `epochs` passes over `train`, and evaluate it on `val` after each.

    Both splits are already on the device. Each epoch's order, and all randomness within a step, follow from `seed` and the
    step's number, so a run that resumes at any step is the same run. The last batch of an epoch may be smaller; it is not
    dropped. `batch_size` is the global one: with several processes each takes an equal shard of every batch. If an epoch's
    last batch cannot be split equally, some of its examples are taken twice, so that a step is the same for any number of
    processes and a trial may resume with another number of them.

    Metrics: `train/...`, the means of the learner's steps over the epoch's examples, with augmentation and dropout on;
    `val/...`; and `time/{unit}_per_s`, the training speed without evaluation. Raises Diverged.
    """
    if batch_size % device.world_size:
        raise ValueError(
            f"batch_size: {batch_size} cannot be shared by {device.world_size} workers. Make it a multiple of {device.world_size}."
        )
    evaluate = partial(_evaluate, learner, val, batch_size, device)
    loop = _Loop(learner, train, val, epochs, batch_size, device)
    first_step = 0 if resume is None else loop.load(resume)
    if first_step == 0:
        cost = len(val) / batch_size * FORWARD_FRACTION
        yield loop.progress(0, metadata={"evaluations": epochs, "evaluation_steps": cost, **metadata})
    if first_step == loop.total_steps:
        yield loop.progress(first_step)  # training is complete; the state and the predictor are still available

    order, on_host = torch.empty(0), list[np.ndarray]()
    began, examples = time.perf_counter(), 0
    for step in range(first_step, loop.total_steps):
        epoch, position = divmod(step, loop.steps_per_epoch)
        if position == 0 or step == first_step:
            order = train.order(torch.Generator().manual_seed(derive_seed(seed, "order", epoch)), batch_size)
            on_host = [device.equal_shard(part).numpy() for part in order.split(batch_size)]
            order = order.to(device.torch)
        indices = order[position * batch_size : (position + 1) * batch_size]
        seed_step(seed, step, device.rank)
        parts = loop.step(indices, on_host[position])
        examples += len(indices)
        ends_epoch = position == loop.steps_per_epoch - 1
        if step % CHECK_EVERY == 0 or ends_epoch:
            loop.check(parts["loss"], step)
        if not ends_epoch:
            paused = time.perf_counter()
            yield loop.progress(step + 1, loss=parts["loss"], evaluate=evaluate)
            began += time.perf_counter() - paused  # the consumer's time is not training time
            continue
        device.synchronise()
        speed = {f"time/{unit}_per_s": examples / (time.perf_counter() - began)}
        metrics = speed | loop.epoch_means() | evaluate()
        yield loop.progress(step + 1, loss=parts["loss"], metrics=metrics, **_artefacts(learner, epoch + 1))
        began, examples = time.perf_counter(), 0


class _Loop:
    """State of the loop between steps: the learner, the first loss, and the sums of the current epoch."""

    def __init__(self, learner: Learner, train: Examples, val: Examples, epochs: int, batch_size: int, device: Device):
        self.steps_per_epoch = math.ceil(len(train) / batch_size)
        self.total_steps = epochs * self.steps_per_epoch
        self._learner, self._train, self._val, self._device = learner, train, val, device
        self._first_loss: float | None = None
        self._epoch_sums: dict[str, Tensor] = {}

    def load(self, state: State) -> int:
        """Restore what `_state` returned, and return its step."""
        self._learner.load_state_dict(state["learner"])
        self._first_loss = state["first_loss"]
        self._epoch_sums = {name: value.to(self._device.torch) for name, value in state["epoch_sums"].items()}
        return state["step"]

    def step(self, indices: Tensor, on_host: np.ndarray) -> dict[str, Tensor]:
        """Train on the global batch `indices`, of which this process takes `on_host`. Returns the loss and its parts."""
        parts = self._learner.step(self._train.batch(self._device.equal_shard(indices), on_host))
        for name, value in parts.items():
            weighted = value * len(indices)
            self._epoch_sums[name] = self._epoch_sums[name] + weighted if name in self._epoch_sums else weighted
        return parts

    def check(self, loss: Tensor, step: int) -> None:
        """Raise Diverged if the mean loss over the processes is not finite or has blown up."""
        value = self._mean(loss).item()
        if self._first_loss is None:
            self._first_loss = value
        if not math.isfinite(value) or abs(value) > BLOW_UP * max(abs(self._first_loss), 1.0):
            raise Diverged(f"training loss {value:g} at step {step + 1} (first step: {self._first_loss:g})")

    def epoch_means(self) -> dict[str, float]:
        """The `train/...` metrics of the epoch that ends here."""
        means = {f"train/{name}": (self._mean(total) / len(self._train)).item() for name, total in self._epoch_sums.items()}
        self._epoch_sums = {}
        return means

    def progress(self, done: int, **given: Any) -> Progress:
        """The `Progress` after `done` steps."""
        return Progress(
            step=done,
            total_steps=self.total_steps,
            epoch=done // self.steps_per_epoch,
            state=lambda: self._state(done),
            predictor=self._predictor,
            **given,
        )

    def _state(self, done: int) -> State:
        # The mean of the sums, so that each process resumes with an equal part of them, whatever its own was.
        sums = {name: self._mean(value) for name, value in self._epoch_sums.items()}
        learner = self._device.gather(self._learner.state_dict())
        return {"step": done, "first_loss": self._first_loss, "epoch_sums": sums, "learner": learner}

    def _predictor(self) -> Predictor | None:
        module = self._learner.predictor()
        first = torch.zeros(1, dtype=torch.int64, device=self._device.torch)
        return None if module is None else Predictor(module, self._val.batch(first)[0])

    def _mean(self, value: Tensor) -> Tensor:
        """The mean of every process's `value`."""
        return self._device.sum(value.clone()) / self._device.world_size


def _evaluate(learner: Learner, val: Examples, batch_size: int, device: Device) -> dict[str, float]:
    """Metrics on `val`.

    Batches are up to four times the training batch, since nothing is kept for a backward pass. Every process gets the same
    number of batches, because its forward passes may wait for those of the others.
    """
    began = time.perf_counter()
    indices = device.shard(torch.arange(len(val), device=device.torch))
    batches = math.ceil(math.ceil(len(val) / device.world_size) / (4 * batch_size))
    values = learner.evaluate(val.batch(part) for part in indices.tensor_split(batches))
    metrics = {name if "/" in name else f"val/{name}": value for name, value in values}
    device.synchronise()
    return metrics | {"time/evaluate_s": time.perf_counter() - began}


def _artefacts(learner: Learner, epoch: int) -> dict[str, Any]:
    """The learner's figures and texts after an epoch, as fields of `Progress`."""
    files = dict(learner.show(epoch))
    return {
        "figures": {name: content for name, content in files.items() if isinstance(content, bytes)},
        "texts": {name: content for name, content in files.items() if isinstance(content, str)},
    }
