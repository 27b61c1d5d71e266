"""What a configuration gives for what it costs: the primary measure against each cost, and which configurations nothing beats."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ddl.reports.measures import Configuration
from ddl.reports.statistics import Estimate

_PRICE = re.compile(r"_(s|ms|us|j|wh|kwh|bytes|kb|mb|gb|kib|mib|gib)(_|$)")
_FIRST = (re.compile(r"latency.*p50"), re.compile(r"elapsed_s|time/train_s"), re.compile(r"energy"), re.compile(r"parameters"))


@dataclass(frozen=True)
class Point:
    """One configuration. `pareto_front`: no other is better in one and at least as good in the other, by the means."""

    configuration: str
    cost: Estimate
    value: Estimate
    front: bool


@dataclass(frozen=True)
class Tradeoff:
    """One cost's plane. `more_is_better` of a rate (images a second); of any other cost, less is."""

    cost: str
    more_is_better: bool
    points: tuple[Point, ...]


def find_tradeoffs(configurations: Sequence[Configuration], costs: Sequence[str], measure: str, mode: str) -> tuple[Tradeoff, ...]:
    """A trade-off for each cost that is one (a utilisation or a temperature is none) and differs between configurations.

    Latency, training time, energy and parameters come first. Of costs with the very same figures, the first is kept.
    """
    found: dict[tuple[float | None, ...], Tradeoff] = {}
    for cost in sorted(filter(_is_price, costs), key=_place):
        known = [c for c in configurations if c.estimates[measure].mean is not None and cost in c.cost_estimates]
        means = tuple(c.cost_estimates[cost].mean for c in known)
        if len(set(means)) > 1 and means not in found:
            found[means] = _tradeoff(known, cost, measure, mode)
    return tuple(found.values())


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of `points` (cost, loss), both better where less, are on the Pareto front."""
    kept, best = set(), math.inf
    for cost, loss in sorted(set(points)):
        if loss < best:
            kept.add((cost, loss))
            best = loss
    return [point in kept for point in points]


def _tradeoff(known: Sequence[Configuration], cost: str, measure: str, mode: str) -> Tradeoff:
    more_is_better = "_per_" in cost
    estimates = [(c.cost_estimates[cost], c.estimates[measure]) for c in known]
    signs = -1 if more_is_better else 1, -1 if mode == "max" else 1
    on_front = pareto_front([(signs[0] * (price.mean or 0.0), signs[1] * (value.mean or 0.0)) for price, value in estimates])
    points = [Point(c.name, price, value, on) for c, (price, value), on in zip(known, estimates, on_front, strict=True)]
    return Tradeoff(cost, more_is_better, tuple(points))


def _is_price(cost: str) -> bool:
    return cost == "parameters" or _PRICE.search(cost) is not None


def _place(cost: str) -> int:
    return next((place for place, kind in enumerate(_FIRST) if kind.search(cost)), len(_FIRST))
