"""Parallel coordinates: one vertical axis per swept hyperparameter and one for the measure, one line per configuration."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddl.reports.measures import Configuration
from ddl.reports.sections.section import Section
from ddl.reports.wording import number

MIN_HYPERPARAMETERS = 3
"""Fewest hyperparameters that must vary. Fewer are easier to read in the table."""

MAX_LINES = 1000


@dataclass(frozen=True)
class Axis:
    """One axis. `kind` is "", "logarithmic" or "categories"; `ticks` are (position from 0 at the bottom to 1, text)."""

    name: str
    kind: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Line:
    """One configuration: its `positions` on the axes from 0 to 1, and its values as `texts`."""

    configuration: str
    positions: tuple[float, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class ParallelCoordinates:
    """The last axis is the measure. The best lines come last, so they are plotted on top; `left_out` counts lines not plotted."""

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]
    left_out: int


def parallel_coordinates(configurations: Sequence[Configuration], measure: str, mode: str) -> ParallelCoordinates | None:
    """The plot, or None if fewer than three hyperparameters vary or nothing is measured yet."""
    measured = [c for c in configurations if c.estimates[measure].mean is not None]
    keys = [key for key in dict.fromkeys(key for c in configurations for key in c.swept) if _varies(configurations, key)]
    if len(keys) < MIN_HYPERPARAMETERS or not measured:
        return None
    worst_first = sorted(measured, key=lambda c: c.estimates[measure].mean or 0.0, reverse=mode == "min")
    plotted = worst_first[-MAX_LINES:]
    scales = [_scale(key, [c.swept.get(key) for c in plotted]) for key in keys]
    scales.append(_scale(measure, [c.estimates[measure].mean for c in plotted]))
    lines = []
    for c in plotted:
        values = [*(c.swept.get(key) for key in keys), c.estimates[measure].mean]
        texts = (*(_short(value) for value in values[:-1]), number(values[-1]))
        lines.append(Line(c.name, tuple(positions[_text(v)] for (_, positions), v in zip(scales, values, strict=True)), texts))
    return ParallelCoordinates(tuple(axis for axis, _ in scales), tuple(lines), len(worst_first) - len(plotted))


def _varies(configurations: Sequence[Configuration], key: str) -> bool:
    return len({_text(c.swept.get(key)) for c in configurations}) > 1


def _scale(name: str, values: Sequence[Any]) -> tuple[Axis, Mapping[str, float]]:
    """The axis, and the position of each value by its text."""
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        texts = list(dict.fromkeys(_text(value) for value in values))
        positions = {text: (i + 0.5) / len(texts) for i, text in enumerate(texts)}
        return Axis(name, "categories", tuple(_thinned([(position, text) for text, position in positions.items()]))), positions
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low >= 30
    forward, back = (math.log10, lambda x: 10**x) if logarithmic else (float, float)
    start, width = forward(low), forward(high) - forward(low) or 1.0
    positions = {_text(value): (forward(value) - start) / width for value in values}
    distinct = sorted(set(values))
    if len(distinct) <= 6:
        ticks = [(positions[_text(value)], _short(value, 3)) for value in distinct]
    else:
        ticks = [(i / 4, _short(back(start + width * i / 4), 3)) for i in range(5)]
    return Axis(name, "logarithmic" if logarithmic else "", tuple(_thinned(ticks))), positions


def _thinned(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """`ticks` without those that would overlap the one before."""
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= 0.06:
            kept.append(tick)
    return kept


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _short(value: Any, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else _text(value)


SECTION = Section(
    "parallel.html.j2",
    build=lambda run, budget: parallel_coordinates(run.configurations, run.primary, run.primary_mode),
    script="parallel.js",
)
