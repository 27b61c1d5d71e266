"""The contract of a learner: networks, their optimisers, and one training step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, final

from torch import Tensor, nn

from ddl.learners.optimised_module import OptimisedModule
from ddl.progress import State

Batch = tuple[Any, ...]
"""Tensors with the examples along their first axis, on the learner's device. Lists of numbers, such as lengths, are on the host."""

Transform = Callable[[Tensor], Tensor]
"""Maps stored inputs to model inputs. It must be a `nn.Module` if it is exported with the model."""


class Pipeline(nn.Module):
    """Preprocessing and model as one module: maps stored inputs to predictions."""

    def __init__(self, preprocess: Transform, model: nn.Module):
        super().__init__()
        self.preprocess, self.model = preprocess, model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(self.preprocess(inputs))


class HasState(Protocol):
    """A part of a learner that can be checkpointed: a network with its optimiser, or the mean of its weights."""

    def state_dict(self) -> State:
        """Everything that further steps depend on."""

    def load_state_dict(self, state: State) -> None:
        """Restore a state from `state_dict`."""


class Learner(ABC):
    """Networks and optimisers that are trained one batch at a time, evaluated, and checkpointed.

    If several processes train one trial, each has its own learner, and every method is called in all of them.
    """

    @abstractmethod
    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Train on one batch. Returns `loss` and its named parts: detached scalars on the device."""

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> Iterator[tuple[str, float]]:
        """Yield (name, value) of each metric over all batches, counting each example once.

        The caller prefixes the split's name, unless the name has a prefix already (`train/accuracy`, `real/inception_score`).
        """

    def show(self, epoch: int) -> Iterator[tuple[str, bytes | str]]:
        """Yield (file name, content) of figures (`*.png` or `*.svg`, bytes) and texts (`*.txt`) after an epoch's evaluation."""
        yield from ()

    def predictor(self) -> nn.Module | None:
        """The trained model with its preprocessing (`Predictor.module`); None if it has no single input to predict from."""
        return None

    @abstractmethod
    def state_dict(self) -> State:
        """Everything that further steps depend on."""

    @abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Restore a state from `state_dict`."""

    def weights(self) -> State:
        """The part of the state that an evaluation depends on; by default all of it."""
        return self.state_dict()

    def load_weights(self, state: State) -> None:
        """Restore a state from `weights`. No step follows."""
        self.load_state_dict(state)

    def before_test(self) -> None:  # noqa: B027  most learners have nothing to replace
        """Called once, before the only evaluation on test data: replaces what belongs to the validation data."""


class SingleNetworkLearner(Learner):
    """A learner that trains one network, whose state is the learner's state."""

    def __init__(self, network: OptimisedModule):
        self._network = network

    @property
    def network(self) -> OptimisedModule:
        """The network that is trained."""
        return self._network

    @final
    def state_dict(self) -> State:
        return self._network.state_dict()

    @final
    def load_state_dict(self, state: State) -> None:
        self._network.load_state_dict(state)

    @final
    def weights(self) -> State:
        return self._network.weights()

    @final
    def load_weights(self, state: State) -> None:
        self._network.load_weights(state)


class SeveralNetworksLearner(Learner):
    """A learner that trains several networks, whose states are the learner's state, by name."""

    def __init__(self, networks: Mapping[str, HasState]):
        self._networks = networks

    @property
    def modules(self) -> nn.ModuleDict:
        """The modules of the networks, by name."""
        return nn.ModuleDict({name: each.module for name, each in self._networks.items() if isinstance(each, OptimisedModule)})

    @final
    def state_dict(self) -> State:
        return {name: network.state_dict() for name, network in self._networks.items()}

    @final
    def load_state_dict(self, state: State) -> None:
        for name, network in self._networks.items():
            network.load_state_dict(state[name])


class StackableLearner(SingleNetworkLearner):
    """A learner that minimises one loss of one network, so that several can be trained as one model (`StackedLearner`)."""

    augments: bool = False
    """True if `prepared` draws random numbers."""

    def prepared(self, batch: Batch) -> Batch:
        """The batch as `losses` gets it. All random numbers of a step that are not the network's are generated here."""
        return batch

    @abstractmethod
    def losses(self, network: Callable[..., Any], batch: Batch) -> dict[str, Tensor]:
        """`loss`, which is minimised, and its named parts: scalars, computed by `torch.vmap` for the members of a stack.

        `network` is called like the learner's own. Draws no random numbers and reads nothing from the device.
        """

    @final
    def step(self, batch: Batch) -> dict[str, Tensor]:
        self._network.train()
        parts = self.losses(self._network, self.prepared(batch))
        self._network.minimise(parts["loss"])
        return {name: value.detach() for name, value in parts.items()}
