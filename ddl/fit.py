"""The one training loop.

It knows a learner, two splits and a device. It yields after every step and never asks who is listening: reports, records
and checkpoints are the consumer's.
"""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ddl.data.splits import Examples
from ddl.devices import Device, derive_seed, seed_step
from ddl.learners.learner import Learner
from ddl.progress import Diverged, Predictor, Progress, State

CHECK_EVERY = 20
"""Steps between looks at the loss. Each look waits for the device, so not every step; a diverged trial wastes no more."""

FORWARD_FRACTION = 1 / 3
"""Of a training step's time: a backward pass takes about two forward ones, for the weights' gradients and the inputs'."""

BLOW_UP = 1e3
"""A loss this many times the first step's has diverged, though it may be finite still."""


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
    """Train `learner` for `epochs` passes over `train`, evaluating on `val` after each.

    Both splits are on the device already. Each epoch's order, and all that is random within a step, follow from `seed`
    and the step's number, so resuming at any step continues the same run. The last batch of an epoch may be smaller and is
    not dropped. `batch_size` is the global one: with several processes each takes its equal share of every batch. Where an
    epoch's last batch cannot be shared equally, some of its examples are taken twice, so that a step is the same step for any
    number of processes, and a trial may go on with another.

    Metrics: `train/...` as the learner's steps gave them (means over the epoch's examples, with augmentation and dropout
    on), `val/...`, and `time/{unit}_per_s`, the training speed without evaluation. Raises Diverged.
    """
    if batch_size % device.world_size:
        raise ValueError(
            f"batch_size: {batch_size} cannot be shared by {device.world_size} workers. Make it a multiple of {device.world_size}."
        )
    steps_per_epoch = math.ceil(len(train) / batch_size)
    total_steps = epochs * steps_per_epoch
    first_step = 0
    first_loss: float | None = None
    epoch_sums: dict[str, Tensor] = {}
    if resume is not None:
        learner.load_state_dict(resume["learner"])
        first_step, first_loss = resume["step"], resume["first_loss"]
        epoch_sums = {name: value.to(device.torch) for name, value in resume["epoch_sums"].items()}

    def progress(done: int, **what: Any) -> Progress:
        def state() -> State:
            # Each process gets the same part of the sums back, whatever its own was.
            sums = {name: device.sum(value.clone()) / device.world_size for name, value in epoch_sums.items()}
            return {"step": done, "first_loss": first_loss, "epoch_sums": sums, "learner": device.gather(learner.state_dict())}

        def predictor() -> Predictor | None:
            module = learner.predictor()
            return None if module is None else Predictor(module, val.batch(torch.zeros(1, dtype=torch.int64, device=device.torch))[0])

        return Progress(step=done, total_steps=total_steps, epoch=done // steps_per_epoch, state=state, predictor=predictor, **what)

    if first_step == 0:
        cost = len(val) / batch_size * FORWARD_FRACTION
        yield progress(0, metadata={"evaluations": epochs, "evaluation_steps": cost, **metadata})
    if first_step == total_steps:
        yield progress(total_steps)  # all is done, but what came of it can still be taken

    order = torch.empty(0)
    began, examples = time.perf_counter(), 0
    for step in range(first_step, total_steps):
        epoch, position = divmod(step, steps_per_epoch)
        if position == 0 or step == first_step:
            generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
            order = train.order(generator, batch_size).to(device.torch)
        indices = order[position * batch_size : (position + 1) * batch_size]
        seed_step(seed, step, device.rank)
        parts = learner.step(train.batch(device.equal_shard(indices)))
        examples += len(indices)
        for name, value in parts.items():
            weighted = value * len(indices)
            epoch_sums[name] = epoch_sums[name] + weighted if name in epoch_sums else weighted

        if step % CHECK_EVERY == 0 or position == steps_per_epoch - 1:
            loss = (device.sum(parts["loss"].clone()) / device.world_size).item()
            first_loss = loss if first_loss is None else first_loss
            if not math.isfinite(loss) or abs(loss) > BLOW_UP * max(abs(first_loss), 1.0):
                raise Diverged(f"training loss {loss:g} at step {step + 1} (first step: {first_loss:g})")

        if position < steps_per_epoch - 1:
            paused = time.perf_counter()
            yield progress(step + 1, loss=parts["loss"])
            began += time.perf_counter() - paused  # what the consumer did is not training
            continue
        device.synchronise()
        metrics = {f"time/{unit}_per_s": examples / (time.perf_counter() - began)}
        for name, total in epoch_sums.items():
            metrics[f"train/{name}"] = (device.sum(total) / device.world_size / len(train)).item()
        epoch_sums = {}
        metrics |= _evaluate(learner, val, batch_size, device)
        shown = dict(learner.show(epoch + 1))
        figures = {name: content for name, content in shown.items() if isinstance(content, bytes)}
        texts = {name: content for name, content in shown.items() if isinstance(content, str)}
        yield progress(step + 1, loss=parts["loss"], metrics=metrics, figures=figures, texts=texts)
        began, examples = time.perf_counter(), 0


def _evaluate(learner: Learner, val: Examples, batch_size: int, device: Device) -> dict[str, float]:
    """Metrics of `val`. Batches are up to four times training's, since nothing is kept for a backward pass, and every process has as
    many: its forward passes may wait for the others'."""
    began = time.perf_counter()
    mine = device.shard(torch.arange(len(val), device=device.torch))
    batches = math.ceil(math.ceil(len(val) / device.world_size) / (4 * batch_size))
    found = learner.evaluate(val.batch(part) for part in mine.tensor_split(batches))
    metrics = {name if "/" in name else f"val/{name}": value for name, value in found}
    device.synchronise()
    return metrics | {"time/evaluate_s": time.perf_counter() - began}
