"""The contract of a learner: model(s), optimiser(s), and one step of training."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, nn

from ddl.progress import State

Batch = tuple[Tensor, ...]
"""Tensors with the examples along their first axis, on the learner's device."""


Transform = Callable[[Tensor], Tensor]
"""From inputs as they are stored to what a model takes. A `nn.Module` where it has to be exported with the model."""


class Pipeline(nn.Module):
    """Preprocessing and model as one module: from inputs as they are stored to predictions."""

    def __init__(self, preprocess: Transform, model: nn.Module):
        super().__init__()
        self.preprocess, self.model = preprocess, model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(self.preprocess(inputs))


class Learner(ABC):
    """Where several processes train one trial, each has a learner, and calls of any of its methods are made in all of them."""

    @abstractmethod
    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch. Gives `loss` and its named parts: scalars, detached, still on the device."""

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        """(name, value) of each metric over all batches, each example counted once; the caller adds the split's name, unless
        the metric is of something else and says so: `train/accuracy` of the model as it is now, `real/inception_score`."""

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        """(file name, content) of what can be looked at after the evaluation of an epoch: figures (bytes of a `*.png` or
        `*.svg`) and texts (`*.txt`). A learner with nothing to show has none."""
        yield from ()

    def predictor(self) -> nn.Module | None:
        """The model as it is used (`Predictor.module`); None where a learner has no one input to predict from."""
        return None

    @abstractmethod
    def state_dict(self) -> State:
        """Everything that further steps depend on."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None: ...
