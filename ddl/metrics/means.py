"""Means over examples, independent of the batch sizes and of the number of processes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ddl.devices import Device


class Means:
    """Accumulates sums of named per-example values over batches and processes."""

    def __init__(self, device: Device):
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """Add values [n], one per example, under each name. Every call must use the same names."""
        for name, value in values.items():
            total = value.double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._count += len(next(iter(values.values())))

    def results(self) -> Iterator[tuple[str, float]]:
        """Yield (name, mean) over the examples of all processes."""
        totals = torch.stack([*self._sums.values(), torch.tensor(float(self._count), dtype=torch.float64, device=self._device.torch)])
        *sums, count = self._device.sum(totals).tolist()
        for name, total in zip(self._sums, sums, strict=True):
            yield name, total / count
