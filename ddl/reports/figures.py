"""Figures: Plotly traces for the curves, and the geometry of the small interval strips in the results table.

Colours are indices into a palette, not colours: the page resolves them when it knows whether it is light, dark or printed.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddl.reports.curves import Panel, Series
from ddl.reports.measures import Configuration, Reference
from ddl.reports.statistics import Estimate
from ddl.reports.verdicts import NOT_COMPARABLE
from ddl.reports.wording import interval, number

# From the palette of Okabe and Ito, "Color Universal Design" (2008), moved until every colour stands out from its background
# by 3:1 (WCAG 2.2, 1.4.11) and any two stay apart for the colour-blind; a test simulates that.
LIGHT = ("#2D65B0", "#CF3900", "#21A172", "#A35086", "#A1863E", "#664F40")
DARK = ("#409EE1", "#D36A12", "#4FE6B3", "#C3729C", "#F7D633", "#C5D8F1")
DASHES = ("solid", "dash")

BAND_FROM = 3
"""The fewest seeds a band is drawn for: with two, Student's t makes it nine times as wide as they lie apart, and it hides all."""


def panels(drawn: Sequence[Panel], names: Sequence[str]) -> list[dict[str, Any]]:
    """One JSON-ready figure a panel: title, Plotly `data` and `layout`, and per trace the `seconds` that may replace `x`.

    `names` are all the configurations drawn; a configuration's place in it is its colour. Panels of the same quantity (the
    part of a metric's name after the slash) share their y range, so that training and validation can be compared.
    """
    spans: dict[str, tuple[float, float]] = {}
    for panel in drawn:
        quantity = panel.metric.split("/", 1)[-1]
        low, high = spans.get(quantity, panel.span)
        spans[quantity] = min(low, panel.span[0]), max(high, panel.span[1])
    return [_figure(panel, names, spans[panel.metric.split("/", 1)[-1]]) for panel in drawn]


def _figure(panel: Panel, names: Sequence[str], span: tuple[float, float]) -> dict[str, Any]:
    low, high = span
    pad = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    logarithmic = [math.log10(low) - 0.05, math.log10(high) + 0.05] if low > 0 else None
    # A band of few seeds may reach far out of the plot, and on a logarithmic axis below zero: it is cut beyond its edge.
    floor = low / 10 if low > 0 else low - 2 * (high - low)
    traces = [trace for series in panel.series for trace in _traces(series, names.index(series.configuration), floor)]
    return {
        "metric": panel.metric,
        "x_name": panel.x_name,
        "ticks": panel.x_name == "epoch" and max(x for series in panel.series for x in series.x) <= 8,  # else "epoch 0.5"
        "data": [trace for trace, _ in traces],
        "seconds": [seconds for _, seconds in traces],
        "linear": [low - pad, high + pad],
        "log": logarithmic,
    }


def _traces(series: Series, index: int, floor: float) -> list[tuple[dict[str, Any], list[float | None]]]:
    """(trace, seconds): the band, the seeds as one trace with gaps, and the mean line on top."""
    name = html.escape(series.configuration)  # Plotly reads some HTML in names
    traces = []
    banded = [i for i, n in enumerate(series.n) if n >= BAND_FROM]
    if banded:
        there_and_back = banded + banded[::-1]
        edge = [series.high[i] for i in banded] + [max(series.low[i], floor) for i in banded[::-1]]
        traces.append(_trace("band", name, index, [series.x[i] for i in there_and_back], edge,
                             [series.seconds[i] for i in there_and_back],
                             mode="lines", line={"width": 0}, fill="toself", hoverinfo="skip"))  # fmt: skip
    if len(series.seeds) > 1:
        xs: list[float | None] = []
        ys: list[float | None] = []
        seconds: list[float | None] = []
        for seed in series.seeds:
            xs += [*seed.x, None]
            ys += [*seed.values, None]
            seconds += [*seed.seconds, None]
        traces.append(_trace("seed", name, index, xs, ys, seconds, mode="lines", line={"width": 1}, opacity=0.45,
                             hoverinfo="skip"))  # fmt: skip
    text = [_hover(series, i) for i in range(len(series.x))]
    dash = DASHES[index // len(LIGHT) % len(DASHES)]
    traces.append(_trace("mean", name, index, series.x, series.mean, series.seconds, text=text,
                         mode="lines" if len(series.x) > 2 else "lines+markers", line={"width": 2.25, "dash": dash},
                         hovertemplate="%{text}"))  # fmt: skip
    return traces


def _trace(
    role: str, name: str, index: int, x: Sequence[Any], y: Sequence[Any], seconds: Sequence[Any], **style: Any
) -> tuple[dict[str, Any], list[float | None]]:
    meta = {"role": role, "series": index, "colour": index % len(LIGHT)}
    return {"type": "scatter", "name": name, "meta": meta, "x": _lean(x), "y": _lean(y)} | style, _lean(seconds)


def _hover(series: Series, i: int) -> str:
    n = series.n[i]
    if n < 2:
        return f"{number(series.mean[i])} (n = {n})"
    return f"{number(series.mean[i])} {interval(Estimate(n, series.mean[i], series.low[i], series.high[i]))} (n = {n})"


def _lean(values: Sequence[float | None]) -> list[float | None]:
    """Six significant digits are more than a screen shows and a third of the bytes."""
    return [None if v is None or not math.isfinite(v) else float(f"{v:.6g}") for v in values]


@dataclass(frozen=True)
class Strip:
    """One row's interval drawn on the table's common scale; every figure is a percentage of the width, None where absent."""

    mean: float
    low: float | None
    high: float | None
    dots: tuple[float, ...]
    reference: float | None
    allowed: tuple[float, float] | None


@dataclass(frozen=True)
class Strips:
    """`left` and `right` are the scale's ends, in the measure's unit."""

    left: float
    right: float
    rows: Mapping[str, Strip]


def strips(configurations: Sequence[Configuration], measure: str, reference: Reference | None) -> Strips | None:
    """The estimates of `measure`, beside the reference's values where it has this measure. None where nothing is measured."""
    tolerance = reference.tolerance if reference is not None and reference.measure == measure else None
    has_reference = reference is not None and reference.measure == measure
    points: list[float] = []
    for c in configurations:
        points += c.values[measure].values()
        points += [c.reference] if has_reference and c.reference is not None else []
    if not any(c.values[measure] for c in configurations):
        return None
    # The scale spans values, not intervals: that of two seeds can be ten times as wide as all there is to see.
    pad = 0.08 * (max(points) - min(points)) or 0.05 * abs(max(points)) or 1.0
    pad = max(pad, 1.5 * (tolerance or 0.0))
    left, right = min(points) - pad, max(points) + pad

    def place(value: float) -> float:
        return round(100 * min(max((value - left) / (right - left), 0.0), 1.0), 2)

    rows = {}
    for c in configurations:
        e = c.estimates[measure]
        if e.mean is None:
            continue
        value = c.reference if has_reference else None
        comparable = c.verdict is not None and c.verdict.word != NOT_COMPARABLE
        rows[c.name] = Strip(
            mean=place(e.mean),
            low=None if e.low is None else place(e.low),
            high=None if e.high is None else place(e.high),
            dots=tuple(place(v) for v in c.values[measure].values()) if 1 < e.n <= 10 else (),
            reference=None if value is None else place(value),
            allowed=None if value is None or tolerance is None or not comparable else (place(value - tolerance), place(value + tolerance)),
        )
    return Strips(left, right, rows)
