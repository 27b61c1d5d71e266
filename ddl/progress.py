"""`Progress`, which a running trial yields after every step, and the types it carries."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

State = dict[str, Any]
"""Nested dictionaries (keys are strings, or all whole numbers) and lists of tensors, NumPy arrays, numbers, strings, booleans and None."""


class Diverged(Exception):
    """Training has diverged. The message gives the figure and its bound."""


@dataclass(frozen=True)
class Predictor:
    """A trained model with its preprocessing, ready for inference.

    module: maps examples as they are stored (uint8 images [n, c, h, w]; token ids [n, t]) to predictions; in eval mode.
    example: one input, [1, ...].
    """

    module: nn.Module
    example: Tensor


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a trial, yielded after the step is done.

    A `Progress` without metrics is a sign of life: cheap enough for every step, and the consumer may drop it.

    step, total_steps: optimiser steps, or env steps if the task has no optimiser step. `total_steps` is 0 if it is unknown. A function
        of the user's (`ddl.tasks.function`) may omit `step`: its measurements are counted.
    epoch: whole passes over the training split; None if the task has no epochs.
    metrics: `split/name` to a finite number. A number that is not finite ends the trial as diverged.
    metadata: JSON-serialisable details of the trial (data source, parameter count), merged into its record; given once, with
        the first `Progress`. The plan reads three keys: `evaluations`, the number of evaluations to come;
        `evaluation_steps`, the cost of one in steps, for evaluations that take too long to be measured; `untimed_steps`,
        the number of steps before a step has its typical cost.
    figures: file name, `*.png` or `*.svg`, to content. texts: file name, `*.txt`, to content. A name that ends in a number, as
        in `digits-003.png`, marks one of a series over evaluations.
    loss: the step's training loss, left on the device, because reading it synchronises the device.
    state: returns the state for a checkpoint. Call it before the next `next()`. None if the trial cannot continue from one: it then
        starts again.
    predictor: returns the model for inference, or None if there is none to time or export. Call it before the next `next()`.
    evaluate: evaluates the model as the trial will at its next evaluation, for a plan that times it; None if it cannot. The plan may
        call it after later steps.

    If several processes train the trial, `state` and `predictor` must be called in all of them; only rank 0's state is complete.
    """

    step: int = 0
    total_steps: int = 0
    state: Callable[[], State] | None = None
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, bytes] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    loss: Tensor | None = None
    predictor: Callable[[], Predictor | None] = lambda: None
    evaluate: Callable[[], object] | None = None


def recordable(progress: Progress) -> Progress:
    """The progress with its counts as integers and its metrics as floats.

    Raises ValueError for a count or metadata that a ledger cannot hold, and TypeError for a metric that is no number.
    """
    try:
        if progress.metadata:  # which most steps do not have
            json.dumps(progress.metadata, allow_nan=False)  # SQLite's JSON has no NaN
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the trial yielded metadata that cannot be recorded ({error}). Give finite numbers, texts, and lists and dictionaries of them."
        ) from error
    if progress.metrics:
        progress = replace(progress, metrics=as_numbers(progress.metrics, "the trial"))
    if {type(progress.step), type(progress.total_steps), type(progress.epoch)} <= {int, type(None)}:
        return progress
    step, total_steps = _whole(progress.step, "step"), _whole(progress.total_steps, "total_steps")
    return replace(progress, step=step, total_steps=total_steps, epoch=None if progress.epoch is None else _whole(progress.epoch, "epoch"))


def as_numbers(metrics: object, trial: str) -> dict[str, float]:
    """The metrics, perhaps numbers of NumPy or torch, as floats. Raises TypeError for anything else; `trial` yielded them."""
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f'{trial} yielded {type(metrics).__name__}. Yield a dictionary of measurements, such as {{"val/accuracy": 0.9}}, or ddl.Progress.'
        )
    numbers = {}
    for name, value in metrics.items():
        try:
            if isinstance(value, str) or not isinstance(name, str):
                raise TypeError
            numbers[name] = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # torch raises RuntimeError for a tensor of several numbers
            raise TypeError(f"{trial} yielded {name!r}: {type(value).__name__}. A measurement is a text and a number.") from None
    return numbers


def _whole(number: object, name: str) -> int:
    """The number, perhaps of NumPy or torch, as an integer."""
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"the trial yielded the {name} {number!r}. It must be a whole number.") from error


StackStep = Mapping[int, Progress | Diverged]
"""One step of trials that are trained as one model: by the index of each member that took it, its progress, or why it diverged."""

StackSteps = Generator[StackStep, Collection[int] | None, None]
"""The steps of a stack. The members whose indices are sent to the generator leave it."""


def alone(steps: Iterable[StackStep]) -> Iterator[Progress]:
    """Progress of a stack's only member. Raises Diverged if it diverges."""
    for step in steps:
        progress = step[0]
        if isinstance(progress, Diverged):
            raise progress
        yield progress
