"""Forecasting examples of a series of numbers: windows of past values, each with the value that follows."""

import csv
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ddl.data.integrity import Damaged
from ddl.data.splits import Examples


@dataclass(frozen=True)
class SeriesForm:
    """The transform f of a series that is forecast: the values y_t or their logarithms, differenced by each of `lags` in turn
    (Box and Jenkins, Time Series Analysis, 1970, chapter 9)."""

    logarithm: bool
    lags: tuple[int, ...]

    def known(self, values: Tensor) -> Tensor:
        """The part of each scaled value that follows from earlier ones: scaled value minus difference, [n - sum(lags)], for the last t."""
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
        """The values, or their logarithms."""
        return values.log() if self.logarithm else values

    def restored(self, scaled: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        return scaled.exp() if self.logarithm else scaled


FORMS = {
    "level": SeriesForm(logarithm=False, lags=()),
    "logarithm": SeriesForm(logarithm=True, lags=()),
    "difference": SeriesForm(logarithm=True, lags=(1,)),
    "seasonal_difference": SeriesForm(logarithm=True, lags=(1, 12)),
}


@dataclass(frozen=True)
class Scaler:
    """Standardises values to the mean 0 and standard deviation 1 of the values that it was fitted on."""

    mean: float
    std: float

    @classmethod
    def fit(cls, values: Tensor) -> Self:
        """A scaler with the mean and standard deviation of `values`."""
        return cls(values.mean().item(), values.std().item())

    def scale(self, values: Tensor) -> Tensor:
        """The standardised values."""
        return (values - self.mean) / self.std

    def restore(self, values: Tensor) -> Tensor:
        """The inverse of `scale`."""
        return values * self.std + self.mean


@dataclass(frozen=True, eq=False)
class Windows(Examples):
    """Windows of a series. An epoch contains each one `repeats` times.

    `inputs` fp32 [n, window] and `targets` fp32 [n] are differenced and standardised. `known` [n] plus the target, with its
    scale restored, is the scaled value of y_t (`SeriesForm.scaled`). `actual` [n] is y_t; `before` [n, 2] is y_t-2 and y_t-1.
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
        """One permutation of the windows after another, `repeats` in all."""
        n = len(self.targets)
        return torch.cat([torch.randperm(n, generator=generator) + n * number for number in range(self.repeats)])

    def batch(self, indices: Tensor, on_host: np.ndarray | None = None) -> tuple[Any, ...]:
        chosen = indices % len(self.targets)
        return self.inputs[chosen], self.targets[chosen], self.known[chosen], self.actual[chosen], self.before[chosen]

    def part(self, windows: slice, repeats: int) -> Self:
        """These windows, with another number of repeats."""
        return replace(self.map_tensors(lambda tensor: tensor[windows]), repeats=repeats)


def split_series(values: Tensor, form: SeriesForm, window: int, held_out: int, repeats: int) -> tuple[Windows, Windows, Scaler]:
    """Training windows, validation windows and the scaler, which is fitted on the training part only.

    The validation targets are the last `held_out` values. Each training window comes `repeats` times. `values` is float64 [n].
    Raises ValueError if no training window is left.
    """
    training = len(values) - held_out
    longest = training - sum(form.lags) - 2
    if window > longest:
        raise ValueError(
            f"task.window: {window} is too long: the series has {len(values)} numbers, {held_out} of them held out, and this form"
            f" uses up {sum(form.lags)}. Give at most {max(longest, 0)}, or hold out fewer."
        )
    known = form.known(values)
    differences = form.scaled(values)[sum(form.lags) :] - known
    scaler = Scaler.fit(differences[: training - sum(form.lags)])
    scaled = scaler.scale(differences)
    inputs = scaled.unfold(0, window, 1)[:-1].float()
    first = sum(form.lags) + window  # position of the first target
    before = torch.stack([values.roll(2), values.roll(1)], dim=1)[first:]  # wraps around at first, but is used for validation only
    every = Windows(inputs, scaled[window:].float(), known[window:].float(), values[first:].float(), before.float(), repeats=1)
    split = training - first
    return every.part(slice(split), repeats), every.part(slice(split, None), 1), scaler


@cache
def read_series(path: Path) -> tuple[list[str], Tensor]:
    """The months, and the values as float64, from a CSV file with a header and these two columns. Raises Damaged if it has others."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    try:
        return [month for month, _ in rows], torch.tensor([float(number) for _, number in rows], dtype=torch.float64)
    except ValueError as error:
        raise Damaged(f"{path}: a row is not a month and a number ({error}).") from error
