"""Base class of a user's tasks: a model that maps inputs to outputs, trained on a loss of outputs and targets."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from ddl.data.splits import Split
from ddl.devices import Device
from ddl.learners.module_learner import ModuleLearner
from ddl.learners.optimised_module import OptimisedModule
from ddl.learners.optimisers import make_optimiser
from ddl.precision import Precision
from ddl.tasks.fit_task import FitTask, Fitting, count_parameters, split_lengths
from ddl.tasks.task import STRICT, Count, Positive

Arrays = tuple[Tensor, Tensor]
"""Inputs and targets of all examples, along the first axis."""


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SupervisedTask(FitTask):
    """Base class of tasks that are defined by their data, model and loss. All else has a default.

    A subclass is decorated with `ddl.task`, and its annotated fields are hyperparameters, with or without a default.
    """

    unit: ClassVar[str] = "examples"
    holds_out: ClassVar[bool] = True

    lr: Positive = 1e-3
    """Learning rate."""
    batch_size: Count = 64
    """Number of examples per training batch, over all processes."""
    epochs: Count = 10
    """Number of passes over the training examples, with an evaluation after each."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """Optimiser."""

    @abstractmethod
    def data(self) -> tuple[Arrays, Arrays]:
        """Training and validation examples. The same for every seed, unless it depends on `self.seed`."""

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model. torch's generator has been seeded for its weights."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar."""

    def metrics(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Further means over the examples of a validation batch, by name, such as `{"accuracy": ...}`."""
        return {}

    def load_data(self, device: Device) -> Any:
        train, val = (Split(*arrays).to(device.torch) for arrays in self._checked_data())
        return (*train.hold_out(self.holdout), val) if self.holdout else (train, val)

    def _checked_data(self) -> tuple[Arrays, Arrays]:
        """The result of `data`. Raises ValueError unless it is two pairs of tensors with as many inputs as targets, and some of each."""
        found, place = self.data(), f"{type(self).__name__}.data"
        wanted = f"{place}: must return (inputs, targets) for training and for validation, two pairs of tensors."
        try:
            pairs = [(inputs, targets) for inputs, targets in found]
        except (TypeError, ValueError) as error:
            raise ValueError(wanted) from error
        if len(pairs) != 2 or not all(isinstance(array, Tensor) for pair in pairs for array in pair):
            raise ValueError(wanted)
        for name, (inputs, targets) in zip(("training", "validation"), pairs, strict=True):
            if len(inputs) != len(targets) or len(inputs) == 0:
                raise ValueError(
                    f"{place}: the {name} part has {len(inputs)} inputs and {len(targets)} targets. Each input needs its target."
                )
        return pairs[0], pairs[1]

    def build(self, data: Any, device: Device) -> Fitting:
        train, val, *rest = data
        test = rest[0] if rest else None
        model = self.model()
        network = OptimisedModule(model, make_optimiser(self.optimiser, self.lr), Precision.parse("fp32"), device)
        origin = {"name": type(self).__name__, "source": "the task's own data", "complete": True} | split_lengths(train, val, test)
        learner = ModuleLearner(network, self.loss, self.metrics, device)
        return Fitting(learner, train, val, {"data": origin, "parameters": count_parameters([model])}, test)
