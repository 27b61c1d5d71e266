"""The contract of a learner: model(s), optimiser(s), and one step of training."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from torch import Tensor

from ddl.progress import State

Batch = tuple[Tensor, ...]
"""Tensors with the examples along their first axis, on the learner's device."""


class Learner(ABC):
    @abstractmethod
    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch. Gives `loss` and its named parts: scalars, detached, still on the device."""

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        """(name, value) of each metric over all batches, each example counted once; the caller adds the split's name."""

    @abstractmethod
    def state_dict(self) -> State:
        """Everything that further steps depend on."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None: ...
