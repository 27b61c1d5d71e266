"""Means over examples, however they came in batches and however many processes share them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ddl.devices import Device


class Means:
    def __init__(self, device: Device):
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """Each example's value of every name, [n]; the names are the same each time."""
        for name, value in values.items():
            total = value.double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._count += len(next(iter(values.values())))

    def results(self) -> Iterator[tuple[str, float]]:
        """(name, mean)."""
        totals = torch.stack([*self._sums.values(), torch.tensor(float(self._count), dtype=torch.float64, device=self._device.torch)])
        *sums, count = self._device.sum(totals).tolist()
        for name, total in zip(self._sums, sums, strict=True):
            yield name, total / count
