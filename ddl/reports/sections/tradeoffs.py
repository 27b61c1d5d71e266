"""Trade-offs: the primary measure against each cost, with the Pareto front of the configurations."""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddl.reports.embedding import EmbeddingBudget
from ddl.reports.measures import Configuration
from ddl.reports.model import RunReport
from ddl.reports.plotting import LIGHT, six_digits
from ddl.reports.sections.section import Section
from ddl.reports.statistics import Estimate
from ddl.reports.wording import cost, interval, metric, number

SHAPES = ("circle", "square")

_PRICE = re.compile(r"_(s|ms|us|j|wh|kwh|bytes|kb|mb|gb|kib|mib|gib)(_|$)")
_SPEED = re.compile(r"_per_(s|ms|us|min|h|second|minute|hour)(_|$)")
_FIRST = (re.compile(r"latency.*p50"), re.compile(r"elapsed_s|time/train_s"), re.compile(r"energy"), re.compile(r"parameters"))


@dataclass(frozen=True)
class Point:
    """One configuration. `front`: by the means, no other one is better on one axis and at least as good on the other."""

    configuration: str
    cost: Estimate
    value: Estimate
    front: bool


@dataclass(frozen=True)
class Tradeoff:
    """The configurations in the plane of one cost. `more_is_better` for a speed (images per second), less for any other cost."""

    cost: str
    more_is_better: bool
    points: tuple[Point, ...]


def find_tradeoffs(configurations: Sequence[Configuration], costs: Sequence[str], measure: str, mode: str) -> tuple[Tradeoff, ...]:
    """A trade-off for each cost that has a price (unlike a utilisation or a temperature) and differs between configurations.

    Latency, training time, energy and parameters come first. Of costs with identical means, the first is kept.
    """
    found: dict[tuple[float | None, ...], Tradeoff] = {}
    for name in sorted(filter(_is_price, costs), key=_rank):
        measured = [c for c in configurations if c.estimates[measure].mean is not None and name in c.cost_estimates]
        means = tuple(c.cost_estimates[name].mean for c in measured)
        if len(set(means)) > 1 and means not in found:
            found[means] = _tradeoff(measured, name, measure, mode)
    return tuple(found.values())


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """True for each of `points` (cost, loss) on the Pareto front; less is better for both."""
    front, best = set(), math.inf
    for price, loss in sorted(set(points)):
        if loss < best:
            front.add((price, loss))
            best = loss
    return [point in front for point in points]


def tradeoff_figures(tradeoffs: Sequence[Tradeoff], names: Sequence[str], measure: str) -> list[dict[str, Any]]:
    """One JSON-ready figure per trade-off: a marker per configuration in `names`, all others in one trace, and the front."""
    figures = []
    for tradeoff in tradeoffs:
        others = [point for point in tradeoff.points if point.configuration not in names]
        data = [_markers(tradeoff.cost, measure, others, None)] if others else []
        data += [_markers(tradeoff.cost, measure, [p], names.index(p.configuration)) for p in tradeoff.points if p.configuration in names]
        front = sorted((p.cost.mean or 0.0, p.value.mean or 0.0) for p in tradeoff.points if p.front)
        steps = {"x": six_digits([x for x, _ in front]), "y": six_digits([y for _, y in front]), "mode": "lines", "hoverinfo": "skip"}
        # A value is attainable at its own cost and at any worse cost, so the step is level towards worse costs.
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


def _tradeoff(configurations: Sequence[Configuration], name: str, measure: str, mode: str) -> Tradeoff:
    more_is_better = _SPEED.search(name) is not None
    estimates = [(c.cost_estimates[name], c.estimates[measure]) for c in configurations]
    signs = -1 if more_is_better else 1, -1 if mode == "max" else 1
    on_front = pareto_front([(signs[0] * (price.mean or 0.0), signs[1] * (value.mean or 0.0)) for price, value in estimates])
    points = [Point(c.name, price, value, on) for c, (price, value), on in zip(configurations, estimates, on_front, strict=True)]
    return Tradeoff(name, more_is_better, tuple(points))


def _is_price(name: str) -> bool:
    return name == "parameters" or _PRICE.search(name) is not None


def _rank(name: str) -> int:
    return next((rank for rank, kind in enumerate(_FIRST) if kind.search(name)), len(_FIRST))


def _markers(name: str, measure: str, points: Sequence[Point], index: int | None) -> dict[str, Any]:
    shape = "circle" if index is None else SHAPES[index // len(LIGHT) % len(SHAPES)]
    trace: dict[str, Any] = {
        "type": "scatter", "mode": "markers",
        "x": six_digits([p.cost.mean for p in points]), "y": six_digits([p.value.mean for p in points]),
        "name": html.escape(points[0].configuration) if index is not None else "",
        "text": [_hover(name, measure, p) for p in points], "hovertemplate": "%{text}<extra></extra>",
        "meta": {"role": "points", "series": index, "colour": None if index is None else index % len(LIGHT)},
        "marker": {"size": [11 if p.front else 8 for p in points], "symbol": [shape if p.front else f"{shape}-open" for p in points]},
    }  # fmt: skip
    if index is not None:
        # No cost is negative, even if Student's t interval of two or three seeds reaches below zero.
        trace |= {"error_x": _whiskers(points[0].cost, least=0.0), "error_y": _whiskers(points[0].value)}
    return trace


def _whiskers(estimate: Estimate, least: float = -math.inf) -> dict[str, Any]:
    if estimate.low is None or estimate.high is None or estimate.mean is None:
        return {"visible": False}
    above = six_digits([estimate.high - estimate.mean])
    below = six_digits([estimate.mean - max(estimate.low, min(least, estimate.mean))])
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.25, "width": 0}


def _hover(name: str, measure: str, point: Point) -> str:
    lines = [f"<b>{html.escape(point.configuration)}</b>{', on the front' if point.front else ''}"]
    for title, estimate, text in (
        (metric(measure), point.value, number(point.value.mean)),
        (metric(name), point.cost, cost(point.cost.mean, name)),
    ):
        lines.append(f"{html.escape(title)}: {text} {interval(estimate)} (n = {estimate.n})")
    return "<br>".join(lines)


def _build(run: RunReport, budget: EmbeddingBudget) -> list[dict[str, Any]] | None:
    return tradeoff_figures(find_tradeoffs(run.configurations, run.costs, run.primary, run.primary_mode), run.shown, run.primary) or None


SECTION = Section("tradeoffs.html.j2", _build, script="tradeoffs.js")
