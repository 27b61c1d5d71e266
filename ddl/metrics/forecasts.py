"""How far forecasts are off, whether they see turns coming, and the forecasts that cost nothing."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

NAIVE = ("last_value", "last_year", "last_year_growth")
"""The last number; that of the same month last year; that times the growth that last month had over its own last year."""


def naive_forecast(values: Tensor, held_out: int, name: str) -> Tensor:
    """The naive forecast of each of the last `held_out` numbers [n], from those before it. Needs 13 of them."""
    n = len(values)

    def back(months: int) -> Tensor:
        return values[n - held_out - months : n - months]

    match name:
        case "last_value":
            return back(1)
        case "last_year":
            return back(12)
        case "last_year_growth":
            return back(12) * back(1) / back(13)
    raise ValueError(f"naive forecast {name!r}: unknown. There are: {', '.join(NAIVE)}.")


def error_sums(forecasts: Tensor, actual: Tensor, before: Tensor) -> Tensor:
    """What `errors` are computed from, summed over any number of forecasts [n]: float64 [6].

    `before` [n, 2] are the two numbers before each of `actual` [n].
    """
    forecasts, actual, before = forecasts.double(), actual.double(), before.double()
    last = before[:, 1]
    off = forecasts - actual
    turns = (actual - last) * (last - before[:, 0]) < 0
    foreseen = turns & ((forecasts - last) * (actual - last) > 0)
    return torch.stack([*(x.sum().double() for x in (off.square(), off.abs(), (forecasts - last).square(), turns, foreseen, off == off))])


def errors(tally: Tensor) -> Iterator[tuple[str, float]]:
    """Root mean square and mean absolute error; the former also against the last number, which is small where a forecast only
    echoes it; and the share of turns foreseen.

    A turn is a number that lies on the other side of the last one than that lay of its predecessor; it is foreseen where the
    forecast lies on its side, too.
    """
    squares, absolute, echo, turns, foreseen, count = tally.tolist()
    yield "rmse_passengers", math.sqrt(squares / count)
    yield "mae_passengers", absolute / count
    yield "rmse_to_last_month_passengers", math.sqrt(echo / count)
    yield "turns_foreseen", foreseen / max(turns, 1)


def preceding(values: Tensor, held_out: int) -> Tensor:
    """[held_out, 2]: the two numbers before each of the last `held_out`."""
    n = len(values)
    return torch.stack([values[n - held_out - 2 : n - 2], values[n - held_out - 1 : n - 1]], dim=1)
