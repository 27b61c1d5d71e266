"""A series of numbers as windows of what came before, each with the number that followed."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ddl.data.integrity import Damaged


@dataclass(frozen=True)
class SeriesForm:
    """What is forecast instead of the number y_t: its logarithm, and of that the differences to `lags` steps before, one
    after the other (Box and Jenkins, Time Series Analysis, 1970, chapter 9)."""

    logarithm: bool
    lags: tuple[int, ...]

    def known(self, values: Tensor) -> Tensor:
        """What of f(y_t), the number or its logarithm, follows from the numbers before it: [n - sum(lags)], for the last so many t."""
        polynomial = np.array([1.0])
        for lag in self.lags:
            polynomial = np.convolve(polynomial, [1.0, *[0.0] * (lag - 1), -1.0])
        scaled = self.scaled(values)
        size = len(values) - sum(self.lags)
        past = torch.zeros(size, dtype=values.dtype)
        for back, weight in enumerate(polynomial):
            if back and weight:
                past -= float(weight) * scaled[len(values) - size - back : len(values) - back]
        return past

    def scaled(self, values: Tensor) -> Tensor:
        return values.log() if self.logarithm else values

    def restored(self, scaled: Tensor) -> Tensor:
        return scaled.exp() if self.logarithm else scaled


FORMS = {
    "level": SeriesForm(logarithm=False, lags=()),
    "logarithm": SeriesForm(logarithm=True, lags=()),
    "difference": SeriesForm(logarithm=True, lags=(1,)),
    "seasonal_difference": SeriesForm(logarithm=True, lags=(1, 12)),
}


@dataclass(frozen=True)
class Scaler:
    """To mean 0 and standard deviation 1, as they are in what it was fitted on."""

    mean: float
    std: float

    @classmethod
    def fit(cls, values: Tensor) -> Self:
        return cls(values.mean().item(), values.std().item())

    def scale(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std

    def restore(self, values: Tensor) -> Tensor:
        return values * self.std + self.mean


@dataclass(frozen=True, eq=False)
class Windows:
    """`Examples` of a series, `repeats` of each, so that an epoch is that many passes.

    `inputs` fp32 [n, window] and `targets` fp32 [n] are in the form that is forecast, scaled; `known` [n] is what has to be
    added to a target, unscaled, to have f(y_t); `actual` [n] is y_t, and `before` [n, 2] are y_t-2 and y_t-1.
    """

    inputs: Tensor
    targets: Tensor
    known: Tensor
    actual: Tensor
    before: Tensor
    repeats: int

    def __len__(self) -> int:
        return self.repeats * len(self.targets)

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        n = len(self.targets)
        return torch.cat([torch.randperm(n, generator=generator) + n * number for number in range(self.repeats)])

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        chosen = indices % len(self.targets)
        return self.inputs[chosen], self.targets[chosen], self.known[chosen], self.actual[chosen], self.before[chosen]

    def part(self, of: slice, repeats: int) -> Self:
        return type(self)(self.inputs[of], self.targets[of], self.known[of], self.actual[of], self.before[of], repeats)

    def to(self, device: torch.device | str) -> Self:
        inputs, targets, known, actual, before = (
            tensor.to(device) for tensor in (self.inputs, self.targets, self.known, self.actual, self.before)
        )
        return type(self)(inputs, targets, known, actual, before, self.repeats)


def split_series(values: Tensor, form: SeriesForm, window: int, held_out: int, repeats: int) -> tuple[Windows, Windows, Scaler]:
    """Training windows, `repeats` of each, and those whose targets are the last `held_out` numbers; and the scaler, which has seen the
    training part alone.

    `values` is float64 [n]. Raises ValueError where nothing is left to train on.
    """
    training = len(values) - held_out
    longest = training - sum(form.lags) - 2
    if window > longest:
        raise ValueError(
            f"task.window: {window} is too long: the series has {len(values)} numbers, {held_out} of them held out, and this form"
            f" uses up {sum(form.lags)}. Give at most {max(longest, 0)}, or hold out fewer."
        )
    known = form.known(values)
    changes = form.scaled(values)[sum(form.lags) :] - known
    scaler = Scaler.fit(changes[: training - sum(form.lags)])
    scaled = scaler.scale(changes)
    inputs = scaled.unfold(0, window, 1)[:-1].float()
    first = sum(form.lags) + window  # the number that the first window is followed by
    before = torch.stack([values.roll(2), values.roll(1)], dim=1)[first:]  # only what is held out is judged
    every = Windows(inputs, scaled[window:].float(), known[window:].float(), values[first:].float(), before.float(), repeats=1)
    here = training - first
    return every.part(slice(here), repeats), every.part(slice(here, None), 1), scaler


@cache
def read_series(path: Path) -> tuple[list[str], Tensor]:
    """The months, and the numbers as float64, of a CSV file with a head and these two columns. Raises Damaged where it has others."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    try:
        return [month for month, _ in rows], torch.tensor([float(number) for _, number in rows], dtype=torch.float64)
    except ValueError as error:
        raise Damaged(f"{path}: a row is no month and number ({error}).") from error
