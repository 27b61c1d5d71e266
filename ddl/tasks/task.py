"""The base class of tasks, and the types of their hyperparameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, final

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ConfigDict, Strict
from pydantic.dataclasses import dataclass

from ddl.precision import Precision
from ddl.progress import Progress, StackSteps, State
from ddl.strategy import Strategy

if TYPE_CHECKING:
    from ddl.devices import Device

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Rejects strings as numbers, booleans as integers, unknown names, and infinite or NaN values."""

Number = Annotated[float, Strict()]
Positive = Annotated[Number, Gt(0)]
Fraction = Annotated[Number, Ge(0), Lt(1)]
MOST = 10**9
"""Largest count, such as of epochs or of a batch's examples: a trial with more would neither start nor end."""
WIDEST = 2**16
"""Largest number of a layer's units or channels: a square matrix of this size has 16 GiB."""
Count = Annotated[int, Strict(), Ge(1), Le(MOST)]
CountOrZero = Annotated[int, Strict(), Ge(0), Le(MOST)]
Width = Annotated[Count, Le(WIDEST)]
"""Units or channels of a layer."""
Depth = Annotated[Count, Le(1000)]
"""Layers."""
Seed = Annotated[int, Strict(), Ge(0), Le(2**53)]
"""0 to 2^53: larger integers lose digits in readers that parse numbers as float64."""


def _known_precision(text: str) -> str:
    if text != "auto":
        Precision.parse(text)
    return text


PrecisionName = Annotated[str, AfterValidator(_known_precision)]
"""`auto` (the fastest precision that agrees with fp32, timed before the sweep), or a precision that `Precision.parse` accepts."""


@dataclass(frozen=True, config=STRICT)
class Task(ABC):
    """Base class of tasks: a frozen dataclass of hyperparameters with `run`, which trains and evaluates.

    The task's YAML assigns each field that has no default. Their annotations define the valid values, so all mistakes in a configuration
    can be reported at once. Constructing a task uses no data, device or network connection.
    """

    data_sets: ClassVar[tuple[str, ...]] = ()
    """Names of the data sets the task can read, for the reference."""

    strategies: ClassVar[tuple[Strategy, ...]] = ("ddp",)
    """Strategies by which several processes can train one trial together; empty if the task does not shard its batches with
    `Device`. `fsdp` requires that the task calls its models only through the result of `Device.replicate`."""

    changeable: ClassVar[tuple[str, ...]] = ()
    """Hyperparameters that may change between two steps of a trial: the shapes in its state do not depend on them."""

    stackable: ClassVar[tuple[str, ...]] = ()
    """Hyperparameters in which trials that are trained as one model may differ, in addition to `seed`."""

    timed: ClassVar[bool] = True
    """False if the plan must not time the task's first steps, because a step may take as long as a whole trial."""

    seed: Seed
    """Seed of all random numbers of the trial, 0 to 2^53."""

    @abstractmethod
    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        """Train and evaluate, yielding after every step.

        `resume` is a state of an earlier run of the same task (`Progress.state`). Training continues after that step, and on a CPU
        the results are identical to those of an uninterrupted run.
        """

    def files(self) -> tuple[str, ...]:
        """Files of the user that the task reads, as its hyperparameters name them. A run from elsewhere may name none."""
        return ()

    def uses_ray(self) -> bool:
        """True if a trial starts processes on the Ray cluster that it runs on."""
        return False

    def can_stack(self) -> bool:
        """True if trials with these hyperparameters can be trained as one model, by `run_stacked`."""
        return False

    def stack_variant(self) -> object:
        """A value that trials of one stack must also have in common, such as the use of a layer that does nothing at 0."""
        return None

    @final
    def stack_key(self) -> str | None:
        """Trials with equal keys can be trained as one model. None: this one cannot."""
        if not self.can_stack():
            return None
        names = [field.name for field in fields(self) if field.name != "seed" and field.name not in self.stackable]
        return repr((type(self), self.stack_variant(), [(name, getattr(self, name)) for name in names]))

    @classmethod
    def run_stacked(cls, members: Sequence[Self], device: Device, resume: Sequence[State | None]) -> StackSteps:
        """Train `members`, which have equal keys, as one model; yields after every step of all of them.

        `resume` has a state for each member, all of the same step, or None for each. They are the states of `run`, and those that
        this yields, so a trial can resume in another stack or alone. A member's numbers do not depend on the others: in fp32 they are
        those of `run` within rounding. A member that diverges has left, and so have the members whose indices are sent to the generator.
        """
        raise NotImplementedError(f"{cls.__name__} cannot train trials as one model")


def precision_of(task: Task) -> str:
    """The task's precision, or "" for a task without one. A function may have a parameter of that name that means something else."""
    precision = getattr(task, "precision", "") if task.timed else ""
    return precision if isinstance(precision, str) else ""


def with_precision(task: Task, name: str) -> Task:
    """The task with `precision: auto` replaced by `name`; any other task unchanged."""
    return replace(task, precision=name or "fp32") if precision_of(task) == "auto" else task  # type: ignore[call-arg]
