"""The contract of a task: hyperparameters in, `Progress` out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ConfigDict, Strict
from pydantic.dataclasses import dataclass

from ddl.devices import Device, Strategy
from ddl.precision import Precision
from ddl.progress import Progress, State

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""No text for a number, no boolean for an integer, no unknown name, no infinity."""

Number = Annotated[float, Strict()]
Positive = Annotated[Number, Gt(0)]
Fraction = Annotated[Number, Ge(0), Lt(1)]
Count = Annotated[int, Strict(), Ge(1)]
CountOrZero = Annotated[int, Strict(), Ge(0)]
Seed = Annotated[int, Strict(), Ge(0), Le(2**53)]
"""Up to what every reader of results takes for a whole number."""


def _known_precision(text: str) -> str:
    if text != "auto":
        Precision.parse(text)
    return text


PrecisionName = Annotated[str, AfterValidator(_known_precision)]
"""`auto`: the fastest that agrees with fp32, by a probe before the sweep. Else as `Precision.parse` takes it."""


@dataclass(frozen=True, config=STRICT)
class Task(ABC):
    """A frozen dataclass of hyperparameters, without defaults: the task's YAML assigns every one.

    Annotations say what a field may be, so that every mistake in a configuration can be named at once. Building a task
    touches no data, device or network.
    """

    data_sets: ClassVar[tuple[str, ...]] = ()
    """Names of the data sets it can read, so that they can be prepared before a trial needs them."""

    strategies: ClassVar[tuple[Strategy, ...]] = ("ddp",)
    """How several processes can train it together. Empty where each would train the whole of it: where it does not share its
    batches through the device. A task with `fsdp` computes with its models through `Device.replicate`'s result alone."""

    changeable: ClassVar[tuple[str, ...]] = ()
    """Hyperparameters that may change between two steps of a trial, since its state has the same shape whatever they are."""

    seed: Seed

    @abstractmethod
    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        """Train and evaluate, yielding after every step.

        `resume` is a state that an earlier run of the same task gave (`Progress.state`); training then goes on after the
        step it was taken at, and on a CPU ends in the very numbers of a run that was never stopped.
        """
