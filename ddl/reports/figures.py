"""Figures: Plotly traces for curves and trade-offs, and the geometry of the small interval strips in the results table.

Colours are indices into a palette, not colours: the page resolves them when it knows whether it is light, dark or printed.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddl.reports.curves import MeanCurve, Panel
from ddl.reports.measures import Configuration, PublishedValues
from ddl.reports.statistics import Estimate
from ddl.reports.tradeoffs import Point, Tradeoff
from ddl.reports.verdicts import NOT_COMPARABLE
from ddl.reports.wording import cost, interval, metric, number

# From the palette of Okabe and Ito, "Color Universal Design" (2008), moved until every colour stands out from its background
# by 3:1 (WCAG 2.2, 1.4.11) and any two stay apart for the colour-blind; a test simulates that.
LIGHT = ("#2D65B0", "#CF3900", "#21A172", "#A35086", "#A1863E", "#664F40")
DARK = ("#409EE1", "#D36A12", "#4FE6B3", "#C3729C", "#F7D633", "#C5D8F1")
DASHES = ("solid", "dash")
SHAPES = ("circle", "square")

BAND_FROM = 3
"""The fewest seeds a band is drawn for: with two, Student's t makes it nine times as wide as they lie apart, and it hides all."""

Positions = dict[str, list[float | None]]
"""Where a trace's points are on each axis but the first, which is the trace's own `x`."""


def panel_figures(drawn: Sequence[Panel], names: Sequence[str]) -> list[dict[str, Any]]:
    """One JSON-ready figure a panel: title, Plotly `data`, ranges, and per trace the `positions` that may replace `x`.

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
        "title": metric(panel.metric),
        "axes": panel.axes,
        "ticks": panel.x_name == "epoch" and max(x for series in panel.series for x in series.x) <= 8,  # else "epoch 0.5"
        "data": [trace for trace, _ in traces],
        "positions": [positions for _, positions in traces],
        "linear": [low - pad, high + pad],
        "log": logarithmic,
    }


def _traces(series: MeanCurve, index: int, floor: float) -> list[tuple[dict[str, Any], Positions]]:
    """(trace, positions): the band, the seeds as one trace with gaps, and the mean line on top."""
    name = html.escape(series.configuration)  # Plotly reads some HTML in names
    own, *others = series.positions
    traces = []
    banded = [i for i, n in enumerate(series.n) if n >= BAND_FROM]
    if banded:
        there_and_back = banded + banded[::-1]
        edge = [series.high[i] for i in banded] + [max(series.low[i], floor) for i in banded[::-1]]
        positions = {axis: [series.positions[axis][i] for i in there_and_back] for axis in series.positions}
        traces.append(_trace("band", name, index, positions, own, edge,
                             mode="lines", line={"width": 0}, fill="toself", hoverinfo="skip"))  # fmt: skip
    if len(series.seeds) > 1:
        apart = {axis: [x for seed in series.seeds for x in (*seed.positions[axis], None)] for axis in (own, *others)}
        ys = [y for seed in series.seeds for y in (*seed.values, None)]
        traces.append(_trace("seed", name, index, apart, own, ys, mode="lines", line={"width": 1}, opacity=0.45,
                             hoverinfo="skip"))  # fmt: skip
    text = [_hover(series, i) for i in range(len(series.x))]
    dash = DASHES[index // len(LIGHT) % len(DASHES)]
    traces.append(_trace("mean", name, index, series.positions, own, series.mean, text=text,
                         mode="lines" if len(series.x) > 2 else "lines+markers", line={"width": 2.25, "dash": dash},
                         hovertemplate="%{text}"))  # fmt: skip
    return traces


def _trace(
    role: str, name: str, index: int, positions: Mapping[str, Sequence[Any]], own: str, y: Sequence[Any], **style: Any
) -> tuple[dict[str, Any], Positions]:
    meta = {"role": role, "series": index, "colour": index % len(LIGHT)}
    trace = {"type": "scatter", "name": name, "meta": meta, "x": _lean(positions[own]), "y": _lean(y)} | style
    return trace, {axis: _lean(places) for axis, places in positions.items() if axis != own}


def _hover(series: MeanCurve, i: int) -> str:
    n = series.n[i]
    if n < 2:
        return f"{number(series.mean[i])} (n = {n})"
    return f"{number(series.mean[i])} {interval(Estimate(n, series.mean[i], series.low[i], series.high[i]))} (n = {n})"


def _lean(values: Sequence[float | None]) -> list[float | None]:
    """Six significant digits are more than a screen shows and a third of the bytes."""
    return [None if v is None or not math.isfinite(v) else float(f"{v:.6g}") for v in values]


def tradeoff_figures(drawn: Sequence[Tradeoff], names: Sequence[str], measure: str) -> list[dict[str, Any]]:
    """One JSON-ready figure a trade-off: a marker a configuration of `names`, all others in one trace, and the front."""
    figures = []
    for tradeoff in drawn:
        others = [point for point in tradeoff.points if point.configuration not in names]
        data = [_markers(tradeoff.cost, measure, others, None)] if others else []
        data += [_markers(tradeoff.cost, measure, [p], names.index(p.configuration)) for p in tradeoff.points if p.configuration in names]
        front = sorted((p.cost.mean or 0.0, p.value.mean or 0.0) for p in tradeoff.points if p.front)
        steps = {"x": _lean([x for x, _ in front]), "y": _lean([y for _, y in front]), "mode": "lines", "hoverinfo": "skip"}
        # Towards the better of costs, a value holds from its point on: a step goes level first where less is better.
        shape = {"line": {"width": 1.25, "dash": "dot", "shape": "vh" if tradeoff.more_is_better else "hv"}}
        data.insert(0, {"type": "scatter", "name": "front", "meta": {"role": "front", "series": None, "colour": None}} | steps | shape)
        prices = [p.cost.mean or 0.0 for p in tradeoff.points]
        figures.append(
            {
                "cost": tradeoff.cost,
                "title": "seconds trained" if tradeoff.cost == "elapsed_s" else metric(tradeoff.cost),
                "value": metric(measure),
                "better": "more" if tradeoff.more_is_better else "less",
                "scale": "log" if min(prices) > 0 and max(prices) / min(prices) >= 30 else "linear",
                "data": data,
            }
        )
    return figures


def _markers(name: str, measure: str, points: Sequence[Point], index: int | None) -> dict[str, Any]:
    shape = "circle" if index is None else SHAPES[index // len(LIGHT) % len(SHAPES)]
    trace: dict[str, Any] = {
        "type": "scatter", "mode": "markers", "x": _lean([p.cost.mean for p in points]), "y": _lean([p.value.mean for p in points]),
        "name": html.escape(points[0].configuration) if index is not None else "",
        "text": [_marker_hover(name, measure, p) for p in points], "hovertemplate": "%{text}<extra></extra>",
        "meta": {"role": "points", "series": index, "colour": None if index is None else index % len(LIGHT)},
        "marker": {"size": [11 if p.front else 8 for p in points], "symbol": [shape if p.front else f"{shape}-open" for p in points]},
    }  # fmt: skip
    if index is not None:
        # No cost is negative, whatever Student's t makes of two or three seeds.
        trace |= {"error_x": _whiskers(points[0].cost, least=0.0), "error_y": _whiskers(points[0].value)}
    return trace


def _whiskers(estimate: Estimate, least: float = -math.inf) -> dict[str, Any]:
    if estimate.low is None or estimate.high is None or estimate.mean is None:
        return {"visible": False}
    above, below = _lean([estimate.high - estimate.mean]), _lean([estimate.mean - max(estimate.low, min(least, estimate.mean))])
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.25, "width": 0}


def _marker_hover(name: str, measure: str, point: Point) -> str:
    lines = [f"<b>{html.escape(point.configuration)}</b>{', on the front' if point.front else ''}"]
    for what, estimate, text in (
        (metric(measure), point.value, number(point.value.mean)),
        (metric(name), point.cost, cost(point.cost.mean, name)),
    ):
        lines.append(f"{html.escape(what)}: {text} {interval(estimate)} (n = {estimate.n})")
    return "<br>".join(lines)


@dataclass(frozen=True)
class IntervalStrip:
    """One row's interval drawn on the table's common scale; every figure is a percentage of the width, None where absent."""

    mean: float
    low: float | None
    high: float | None
    dots: tuple[float, ...]
    reference: float | None
    allowed: tuple[float, float] | None


@dataclass(frozen=True)
class IntervalStrips:
    """`left` and `right` are the scale's ends, in the measure's unit."""

    left: float
    right: float
    rows: Mapping[str, IntervalStrip]


def interval_strips(configurations: Sequence[Configuration], measure: str, reference: PublishedValues | None) -> IntervalStrips | None:
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
        rows[c.name] = IntervalStrip(
            mean=place(e.mean),
            low=None if e.low is None else place(e.low),
            high=None if e.high is None else place(e.high),
            dots=tuple(place(v) for v in c.values[measure].values()) if 1 < e.n <= 10 else (),
            reference=None if value is None else place(value),
            allowed=None if value is None or tolerance is None or not comparable else (place(value - tolerance), place(value + tolerance)),
        )
    return IntervalStrips(left, right, rows)
