"""Evaluation of a learner on a split: its metrics, and its figures and texts."""

import math
import time
from typing import Any

import torch

from ddl.data.splits import Examples
from ddl.devices import Device
from ddl.learners.learner import Learner


def evaluate_split(learner: Learner, examples: Examples, split: str, batch_size: int, device: Device) -> dict[str, float]:
    """Metrics on `examples`, which are the split of this name.

    Batches are up to four times the training batch, since nothing is kept for a backward pass. Every process gets the same
    number of batches, because its forward passes may wait for those of the others.
    """
    began = time.perf_counter()
    indices = device.shard(torch.arange(len(examples), device=device.torch))
    batches = math.ceil(math.ceil(len(examples) / device.world_size) / (4 * batch_size))
    values = learner.evaluate(examples.batch(part) for part in indices.tensor_split(batches))
    metrics = {name if "/" in name else f"{split}/{name}": value for name, value in values}
    device.synchronise()
    return metrics | {"time/evaluate_s": time.perf_counter() - began}


def evaluate_test(learner: Learner, test: Examples, batch_size: int, device: Device) -> dict[str, float]:
    """The metrics of the only evaluation on `test`."""
    learner.before_test()
    metrics = evaluate_split(learner, test, "test", batch_size, device)
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


def figures_and_texts(learner: Learner, epoch: int) -> dict[str, Any]:
    """The learner's figures and texts after an epoch, as fields of `Progress`."""
    files = dict(learner.show(epoch))
    return {
        "figures": {name: content for name, content in files.items() if isinstance(content, bytes)},
        "texts": {name: content for name, content in files.items() if isinstance(content, str)},
    }
