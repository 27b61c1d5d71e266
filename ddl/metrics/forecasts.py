"""Errors of forecasts, including missed turning points, and naive baseline forecasts."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

NAIVE = ("last_value", "last_year", "last_year_growth")
"""The last value; the value of the same month last year; the latter times last month's year-over-year growth."""


def naive_forecast(values: Tensor, held_out: int, name: str) -> Tensor:
    """Naive forecasts of the last `held_out` of monthly `values` [n], each from earlier values.

    Raises ValueError for an unknown `name`, and for fewer than `held_out` + 13 values.
    """
    n = len(values)
    if n < held_out + 13:
        raise ValueError(f"held_out: {held_out} of {n} months leave too few for a naive forecast. Hold out at most {n - 13}.")

    def back(months: int) -> Tensor:
        return values[n - held_out - months : n - months]

    match name:
        case "last_value":
            return back(1)
        case "last_year":
            return back(12)
        case "last_year_growth":
            return back(12) * back(1) / back(13)
    raise ValueError(f"naive forecast {name!r}: unknown. Use one of: {', '.join(NAIVE)}.")


def error_sums(forecasts: Tensor, actual: Tensor, before: Tensor) -> Tensor:
    """Sums over forecasts [n] that `errors` needs, float64 [6]. Sums of several batches can be added.

    `before` [n, 2] has the two values before each of `actual` [n].
    """
    forecasts, actual, before = forecasts.double(), actual.double(), before.double()
    last = before[:, 1]
    error = forecasts - actual
    turns = (actual - last) * (last - before[:, 0]) < 0
    foreseen = turns & ((forecasts - last) * (actual - last) > 0)
    return torch.stack(
        [*(x.sum().double() for x in (error.square(), error.abs(), (forecasts - last).square(), turns, foreseen, error == error))]
    )


def errors(sums: Tensor) -> Iterator[tuple[str, float]]:
    """RMSE and MAE; the RMSE to the last value, which is small if forecasts only repeat it; and the fraction of foreseen turns.

    At a turn the series changes direction. It is foreseen if the forecast has the right direction from the last value.
    `sums` [6] are those of `error_sums`.
    """
    squares, absolute, echo, turns, foreseen, count = sums.tolist()
    yield "rmse_passengers", math.sqrt(squares / count)
    yield "mae_passengers", absolute / count
    yield "rmse_to_last_month_passengers", math.sqrt(echo / count)
    yield "turns_foreseen", foreseen / max(turns, 1)


def preceding(values: Tensor, held_out: int) -> Tensor:
    """The two values before each of the last `held_out` values, [held_out, 2]."""
    n = len(values)
    return torch.stack([values[n - held_out - 2 : n - 2], values[n - held_out - 1 : n - 1]], dim=1)
