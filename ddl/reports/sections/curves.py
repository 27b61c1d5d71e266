"""The curves of every metric over training, as Plotly figures."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddl.ledger_tables import LOST
from ddl.reports.curves import MeanCurve, Panel, curve_panels
from ddl.reports.embedding import EmbeddingBudget
from ddl.reports.model import RunReport
from ddl.reports.plotting import LIGHT, six_digits
from ddl.reports.sections.section import Block, HeadingBlock, LinePlotsBlock, Section, TextBlock
from ddl.reports.statistics import Estimate
from ddl.reports.wording import interval, metric, number

DASHES = ("solid", "dash")

BAND_FROM = 3
"""Fewest seeds that get a band. With two seeds, Student's t makes the band nine times as wide as their distance, and it hides the rest."""

Positions = dict[str, list[float | None]]
"""A trace's positions on each axis but the first, which is the trace's own `x`."""


@dataclass(frozen=True)
class CurveFigures:
    """The figures of all panels, the horizontal axes that any of them has, and what to know about them, or ""."""

    figures: list[dict[str, Any]]
    axes: list[str]
    note: str


def run_panels(run: RunReport) -> tuple[Panel, ...]:
    """The curves of the configurations that the report draws."""
    configurations, seeds = {t.trial_id: t.configuration for t in run.trials}, {t.trial_id: t.seed for t in run.trials}
    return curve_panels(run.metrics, configurations, seeds, run.shown, run.metric)


def curves_note(run: RunReport) -> str:
    """Sentences on the configurations that the plots leave out, and on the trials that only they have; "" if there are none."""
    total, sentences = len(run.configurations), []
    if len(run.shown) < total:
        sentences.append(f"The {len(run.shown)} best of {total} configurations by {metric(run.primary)}.")
    if any(trial.status in LOST for trial in run.trials):
        sentences.append("Trials that failed or diverged are included up to their last measurement, unlike in the tables.")
    if run.statuses["stopped"]:
        sentences.append("Where a trial was stopped early, the mean continues without it.")
    return " ".join(sentences)


def panel_figures(panels: Sequence[Panel], names: Sequence[str]) -> list[dict[str, Any]]:
    """One JSON-ready figure per panel: title, Plotly `data`, ranges, and per trace the `positions` that may replace `x`.

    `names` are all configurations in the plots; the index of a configuration chooses its colour. Panels of the same quantity (the part of a
    metric's name after the slash) share their y range, so that training and validation can be compared.
    """
    spans: dict[str, tuple[float, float]] = {}
    for panel in panels:
        quantity = panel.metric.split("/", 1)[-1]
        low, high = spans.get(quantity, panel.span)
        spans[quantity] = min(low, panel.span[0]), max(high, panel.span[1])
    return [_figure(panel, names, spans[panel.metric.split("/", 1)[-1]]) for panel in panels]


def _figure(panel: Panel, names: Sequence[str], span: tuple[float, float]) -> dict[str, Any]:
    low, high = span
    pad = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    logarithmic = [math.log10(low) - 0.05, math.log10(high) + 0.05] if low > 0 else None
    # With few seeds a band may reach far below the plot, and below zero on a logarithmic axis: clip it outside the visible range.
    floor = low / 10 if low > 0 else low - 2 * (high - low)
    traces = [trace for series in panel.series for trace in _traces(series, names.index(series.configuration), floor)]
    return {
        "metric": panel.metric,
        "title": metric(panel.metric),
        "axes": panel.axes,
        "ticks": panel.x_name == "epoch" and max(x for series in panel.series for x in series.x) <= 8,  # else ticks at half epochs
        "data": [trace for trace, _ in traces],
        "positions": [positions for _, positions in traces],
        "linear": [low - pad, high + pad],
        "log": logarithmic,
    }


def _traces(series: MeanCurve, index: int, floor: float) -> list[tuple[dict[str, Any], Positions]]:
    """(trace, positions): the band, the seeds as one trace with gaps, and the mean line on top."""
    name = html.escape(series.configuration)  # Plotly reads some HTML in names
    x_axis, *other_axes = series.positions
    traces = []
    banded = [i for i, n in enumerate(series.n) if n >= BAND_FROM]
    if banded:
        outline = banded + banded[::-1]
        edge = [series.high[i] for i in banded] + [max(series.low[i], floor) for i in banded[::-1]]
        positions = {axis: [series.positions[axis][i] for i in outline] for axis in series.positions}
        traces.append(_trace("band", name, index, positions, x_axis, edge,
                             mode="lines", line={"width": 0}, fill="toself", hoverinfo="skip"))  # fmt: skip
    if len(series.seeds) > 1:
        with_gaps = {axis: [x for seed in series.seeds for x in (*seed.positions[axis], None)] for axis in (x_axis, *other_axes)}
        ys = [y for seed in series.seeds for y in (*seed.values, None)]
        traces.append(_trace("seed", name, index, with_gaps, x_axis, ys, mode="lines", line={"width": 1}, opacity=0.45,
                             hoverinfo="skip"))  # fmt: skip
    text = [_hover(series, i) for i in range(len(series.x))]
    dash = DASHES[index // len(LIGHT) % len(DASHES)]
    traces.append(_trace("mean", name, index, series.positions, x_axis, series.mean, text=text,
                         mode="lines" if len(series.x) > 2 else "lines+markers", line={"width": 2.25, "dash": dash},
                         hovertemplate="%{text}"))  # fmt: skip
    return traces


def _trace(
    role: str, name: str, index: int, positions: Mapping[str, Sequence[Any]], x_axis: str, y: Sequence[Any], **style: Any
) -> tuple[dict[str, Any], Positions]:
    meta = {"role": role, "series": index, "colour": index % len(LIGHT)}
    trace = {"type": "scatter", "name": name, "meta": meta, "x": six_digits(positions[x_axis]), "y": six_digits(y)} | style
    return trace, {axis: six_digits(xs) for axis, xs in positions.items() if axis != x_axis}


def _hover(series: MeanCurve, i: int) -> str:
    n = series.n[i]
    if n < 2:
        return f"{number(series.mean[i])} (n = {n})"
    return f"{number(series.mean[i])} {interval(Estimate(n, series.mean[i], series.low[i], series.high[i]))} (n = {n})"


def _build(run: RunReport, budget: EmbeddingBudget) -> CurveFigures | None:
    panels = run_panels(run)
    axes = list(dict.fromkeys(axis for panel in panels for axis in panel.axes))
    return CurveFigures(panel_figures(panels, run.shown), axes, curves_note(run)) if panels else None


def _wandb(run: RunReport) -> Iterator[Block]:
    panels = run_panels(run)
    if panels:
        yield HeadingBlock("Curves")
        yield LinePlotsBlock({panel.metric: panel.x_name for panel in panels})
        text = f"{curves_note(run)} Lines: mean over the seeds of a configuration. Shaded bands: standard error."
        yield TextBlock(text.strip(), caption=True)


SECTION = Section("curves.html.j2", _build, _wandb, script="curves.js")
