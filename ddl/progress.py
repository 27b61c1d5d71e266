"""What a running trial yields: the one thing that passes from training to its consumer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

State = dict[str, Any]
"""Nested dictionaries (string keys) of tensors, numbers, strings, booleans and None: all that a checkpoint can hold."""


class Diverged(Exception):
    """Training left the range in which it can still learn; the message gives the figure and its bound."""


@dataclass(frozen=True)
class Predictor:
    """A trained model as it is used: `module` takes examples as they are stored (uint8 images [n, c, h, w]; token numbers
    [n, t]), preprocessing included, and gives what the task predicts. It is in eval mode. `example` is one input, [1, ...]."""

    module: nn.Module
    example: Tensor


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a trial, yielded after the step is done.

    A `Progress` without metrics is a sign of life: cheap enough for every step, and the consumer may drop it.

    `step` and `total_steps` count optimiser steps (or env steps, where a task has no optimiser step of its own).
    `epoch` counts whole passes over the training split, None where a task has none.
    `metrics` maps `split/name` to a finite number; a number that is not finite ends the trial as diverged.
    `metadata` are what the trial learnt about itself (data source, parameter count), JSON-serialisable, merged into its
    record; given once, with the first `Progress`. The plan reads three of them: `evaluations`, how many there will be;
    `evaluation_steps`, what one costs in steps, where the first one's `time/evaluate_s` is not typical; `untimed_steps`,
    how many steps pass before they cost what they will cost.
    `figures` maps a file name, `*.png` or `*.svg`, to its bytes; `texts` maps a file name, `*.txt`, to what a model wrote. Where
    there is one an evaluation, the name ends in a number, as in `digits-003.png`.
    `loss` is the last step's training loss, left on the device so that nobody who does not need it waits for it.
    `state` takes the state for a checkpoint when called, and only before the generator is resumed. `predictor` does so with
    the model as it is used, and gives None where there is none to be timed or exported. Where several processes train the
    trial, all of them call these or none: each may hold a part. The first one's state alone is whole.
    """

    step: int
    total_steps: int
    state: Callable[[], State]
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, bytes] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    loss: Tensor | None = None
    predictor: Callable[[], Predictor | None] = lambda: None
