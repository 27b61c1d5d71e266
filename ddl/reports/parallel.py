"""Parallel coordinates: one upright axis a swept hyperparameter and one for the measure, one line a configuration."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddl.reports.measures import Configuration
from ddl.reports.wording import number

LEAST = 3
"""Hyperparameters that vary; fewer are read more easily from the table."""

LINES = 1000


@dataclass(frozen=True)
class Axis:
    """`name` as it is in the records; `ticks` are (place from 0 at the bottom to 1, text); `kind`: "", "logarithmic" or "categories"."""

    name: str
    kind: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Line:
    """One configuration: its `places` on the axes from 0 to 1, and `texts`, the values themselves."""

    configuration: str
    places: tuple[float, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class ParallelCoordinates:
    """The last axis is the measure's. The best lines come last, so that they are drawn on top; `left_out` counts those not drawn."""

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]
    left_out: int


def parallel_coordinates(configurations: Sequence[Configuration], measure: str, mode: str) -> ParallelCoordinates | None:
    """None where fewer than three hyperparameters vary, or nothing is measured yet."""
    measured = [c for c in configurations if c.estimates[measure].mean is not None]
    keys = [key for key in dict.fromkeys(key for c in configurations for key in c.swept) if _varies(configurations, key)]
    if len(keys) < LEAST or not measured:
        return None
    worst_first = sorted(measured, key=lambda c: c.estimates[measure].mean or 0.0, reverse=mode == "min")
    drawn = worst_first[-LINES:]
    scales = [_scale(key, [c.swept.get(key) for c in drawn]) for key in keys]
    scales.append(_scale(measure, [c.estimates[measure].mean for c in drawn]))
    lines = []
    for c in drawn:
        values = [*(c.swept.get(key) for key in keys), c.estimates[measure].mean]
        texts = (*(_short(value) for value in values[:-1]), number(values[-1]))
        lines.append(Line(c.name, tuple(places[_text(v)] for (_, places), v in zip(scales, values, strict=True)), texts))
    return ParallelCoordinates(tuple(axis for axis, _ in scales), tuple(lines), len(worst_first) - len(drawn))


def _varies(configurations: Sequence[Configuration], key: str) -> bool:
    return len({_text(c.swept.get(key)) for c in configurations}) > 1


def _scale(name: str, values: Sequence[Any]) -> tuple[Axis, Mapping[str, float]]:
    """The axis, and the place of each value by its text."""
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        texts = list(dict.fromkeys(_text(value) for value in values))
        places = {text: (i + 0.5) / len(texts) for i, text in enumerate(texts)}
        return Axis(name, "categories", tuple(_apart([(place, text) for text, place in places.items()]))), places
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low >= 30
    forward, back = (math.log10, lambda x: 10**x) if logarithmic else (float, float)
    start, width = forward(low), forward(high) - forward(low) or 1.0
    places = {_text(value): (forward(value) - start) / width for value in values}
    distinct = sorted(set(values))
    if len(distinct) <= 6:
        ticks = [(places[_text(value)], _short(value, 3)) for value in distinct]
    else:
        ticks = [(i / 4, _short(back(start + width * i / 4), 3)) for i in range(5)]
    return Axis(name, "logarithmic" if logarithmic else "", tuple(_apart(ticks))), places


def _apart(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Those that do not stand on one another."""
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= 0.06:
            kept.append(tick)
    return kept


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _short(value: Any, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else _text(value)
