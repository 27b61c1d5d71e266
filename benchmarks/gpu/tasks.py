"""Tasks that only the check on a GPU trains."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from pydantic.dataclasses import dataclass

from ddl.data.splits import DataSet, Split
from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.classification import Classification
from ddl.tasks.task import STRICT, Count, Fraction, Task

TRAIN, VAL = 50_000, 10_000


@dataclass(frozen=True, config=STRICT)
class RepeatedClassification(Classification):
    """Classification on the bundled sample, repeated to the size of CIFAR-10, for its speed where the full data set is not there.

    With a `train_limit` the sample is not repeated.
    """

    def load(self, name: str, device: Device) -> DataSet:
        data = super().load(name, device)
        if self.train_limit:
            return data
        return replace(data, train=_repeat(data.train, TRAIN), val=_repeat(data.val, VAL))


def _repeat(split: Split, size: int) -> Split:
    indices = torch.arange(size, device=split.targets.device) % len(split)
    return split.map_tensors(lambda tensor: tensor[indices])


@dataclass(frozen=True, config=STRICT)
class Memory(Task):
    """Takes the fraction `memory` of the GPU's memory for `steps` steps of 50 ms."""

    memory: Fraction
    steps: Count

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        first = 0 if resume is None else resume["step"]
        size = int(self.memory * torch.cuda.mem_get_info(device.torch)[1]) if device.torch.type == "cuda" else 1
        taken = torch.zeros(size, dtype=torch.uint8, device=device.torch)
        for step in range(first, self.steps):
            torch.cuda._sleep(10_000_000) if device.torch.type == "cuda" else None
            taken.add_(1)
            device.synchronise()
            yield Progress(step + 1, self.steps, lambda step=step: {"step": step + 1}, metrics={"val/steps": float(step + 1)})
