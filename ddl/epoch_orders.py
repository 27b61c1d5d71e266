"""Orders of the examples in an epoch, one for each trial that is trained, and the batches that they make."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ddl.data.splits import Examples
from ddl.devices import Device, derive_seed
from ddl.learners.learner import Batch


class EpochOrders:
    """The orders of an epoch: [k, n] on the device for k members, and each batch's on the host."""

    def __init__(self, train: Examples, epochs: int, batch_size: int, device: Device):
        self._epochs = epochs
        self._train, self._batch_size, self._device = train, batch_size, device
        self._orders, self._on_host = torch.empty(0), list[np.ndarray]()
        self._prepared: Tensor | None = None

    def prepare(self, seeds: Sequence[int], epoch: int) -> None:
        """Compute the orders of an epoch from the members' seeds, on the host, while a GPU still has steps to compute; none after the last."""
        if epoch == self._epochs:
            return
        generators = [torch.Generator().manual_seed(derive_seed(seed, "order", epoch)) for seed in seeds]
        self._prepared = torch.stack([self._train.order(generator, self._batch_size) for generator in generators])

    def start(self, seeds: Sequence[int], epoch: int) -> None:
        """Start an epoch, with the orders that `prepare` has computed if it was called."""
        if self._prepared is None:
            self.prepare(seeds, epoch)
        assert self._prepared is not None
        self._on_host = [self._device.equal_shard(part.T).T.numpy() for part in self._prepared.split(self._batch_size, dim=1)]
        self._orders, self._prepared = self._device.upload(self._prepared), None

    def keep(self, rows: list[int]) -> None:
        """Keep the orders of the members at `rows` only."""
        if len(self._orders):
            self._orders = self._orders.index_select(0, torch.tensor(rows, device=self._device.torch))
            self._on_host = [part[rows] for part in self._on_host]
        if self._prepared is not None:
            self._prepared = self._prepared[rows]

    def batch_length(self, position: int) -> int:
        """Number of examples of a member's global batch."""
        return min(self._batch_size, self._orders.shape[1] - position * self._batch_size)

    def batch(self, position: int) -> Batch:
        """This process's shard of the members' batches; each part has a first dimension k if there are several members."""
        indices = self._orders[:, position * self._batch_size : (position + 1) * self._batch_size]
        own, on_host = self._device.equal_shard(indices.T).T, self._on_host[position]
        batch = self._train.batch(own.reshape(-1), on_host.reshape(-1))
        if len(self._orders) > 1:
            # Lists, such as lengths, are for a single model's kernels.
            batch = tuple(part.unflatten(0, own.shape) for part in batch if isinstance(part, Tensor))
        return batch
