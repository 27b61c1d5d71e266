"""Base class of the tasks that `fit` trains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, field_validator
from pydantic.dataclasses import dataclass

from ddl.model_selection import parse_selection
from ddl.progress import Progress, StackSteps, State
from ddl.tasks.task import STRICT, Count, Fraction, Positive, Task

if TYPE_CHECKING:
    from torch import nn

    from ddl.data.splits import Examples
    from ddl.devices import Device
    from ddl.fit import FitSettings
    from ddl.learners.learner import Learner


def _names_a_metric(text: str) -> str:
    parse_selection(text)
    return text


@plain_dataclass(frozen=True, eq=False)
class Fitting:
    """A trial ready for `fit`: its learner, its training, validation and test examples, and its metadata.

    `test` is given exactly if the task holds data out (`FitTask.holdout`).
    """

    learner: Learner
    train: Examples
    val: Examples
    metadata: dict[str, Any] = field(default_factory=dict)
    test: Examples | None = None


@dataclass(frozen=True, config=STRICT)
class FitTask(Task):
    """Base class of tasks that train a `Learner` on batches with `fit`: learning rate, batch size and epochs.

    A subclass defines `load_data` and `build`, from which come `run` and `run_stacked`; or `run` alone, and cannot stack.
    """

    unit: ClassVar[str]
    """Plural noun for the examples, as in the metric `time/{unit}_per_s`."""

    holds_out: ClassVar[bool] = False
    """True if the task supports `holdout`."""

    lr: Positive
    """Learning rate at the first step; the highest one of a one-cycle schedule."""
    batch_size: Count
    """Number of examples per training batch, over all processes."""
    epochs: Count
    """Number of passes over the training examples, with an evaluation after each."""
    holdout: Fraction = field(default=0.0, kw_only=True)
    """Fraction of the training examples that becomes the validation split, the same for all seeds. The former validation split becomes
    the test split, which is evaluated once, at the end. 0, the default, changes nothing; `generation` takes only 0."""
    selected_by: Annotated[str, AfterValidator(_names_a_metric)] = field(default="", kw_only=True)
    """Direction and name of the validation metric that selects the epoch to test, such as `max val/accuracy`; empty for the last epoch.
    Ignored without `holdout`."""

    @field_validator("holdout")
    @classmethod
    def _can_hold_out(cls, holdout: float) -> float:
        if holdout and not cls.holds_out:
            raise ValueError(f"{holdout:g}: {cls.__name__} cannot hold out training data. Set it to 0.")
        return holdout

    def trained_epochs(self) -> int:
        """Number of epochs that are trained; a task may override `epochs`."""
        return self.epochs

    def load_data(self, device: Device) -> Any:
        """The data, with its examples on the device: one copy for all trials with an equal `stack_key`."""
        raise NotImplementedError(f"{type(self).__name__} has a `run` of its own")

    def build(self, data: Any, device: Device) -> Fitting:
        """The trial on `data`, from `load_data`. torch's generator has been seeded for the initial weights."""
        raise NotImplementedError(f"{type(self).__name__} has a `run` of its own")

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        data = self.load_data(device)
        self.seed_weights()
        built = self.build(data, device)
        yield from self.train(built.learner, built.train, built.val, device, built.metadata, resume, built.test)

    @classmethod
    def run_stacked(cls, members: Sequence[Self], device: Device, resume: Sequence[State | None]) -> StackSteps:
        from ddl.fit import Member, fit_together

        assert len({member.stack_key() for member in members}) == 1, "trials that cannot be trained as one model"
        first = members[0]
        data = first.load_data(device)
        together: list[Member] = []
        for member, state in zip(members, resume, strict=True):
            member.seed_weights()
            built = member.build(data, device)
            together.append(Member(built.learner, member.seed, built.metadata, state))
        yield from fit_together(together, first._fit_settings(built.train, built.val, device, built.test))

    def seed_weights(self) -> None:
        """Seed torch's generator for the initial weights."""
        import torch

        from ddl.devices import derive_seed

        torch.manual_seed(derive_seed(self.seed, "weights", 0))

    def steps(self, train: Examples) -> int:
        """Number of training steps."""
        return self.trained_epochs() * math.ceil(len(train) / self.batch_size)

    def train(
        self,
        learner: Learner,
        train: Examples,
        val: Examples,
        device: Device,
        metadata: dict[str, Any],
        resume: State | None,
        test: Examples | None = None,
    ) -> Iterator[Progress]:
        """Run `fit` with the task's hyperparameters. `test` is given exactly if the task holds data out."""
        from ddl.fit import Member, fit

        if (test is not None) != (self.holdout > 0):
            raise ValueError(f"{type(self).__name__}: holds_out is True, so it needs test examples if and only if task.holdout is above 0.")
        yield from fit(Member(learner, self.seed, metadata, resume), self._fit_settings(train, val, device, test))

    def _fit_settings(self, train: Examples, val: Examples, device: Device, test: Examples | None) -> FitSettings:
        from ddl.fit import FitSettings

        return FitSettings(train, val, self.trained_epochs(), self.batch_size, device, self.unit, test, self.selected_by)


def count_parameters(modules: Iterable[nn.Module], trainable_only: bool = False) -> int:
    """Total number of parameters of `modules`, frozen ones included unless `trainable_only`."""
    parameters = (parameter for module in modules for parameter in module.parameters())
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad or not trainable_only)


def split_lengths(train: Examples, val: Examples, test: Examples | None) -> dict[str, int]:
    """Number of examples of each split, by its name, as part of a trial's metadata."""
    return {"train": len(train), "val": len(val)} | ({} if test is None else {"test": len(test)})
