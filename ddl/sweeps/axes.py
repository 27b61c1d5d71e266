"""Axes of a sweep: lists of values, and distributions with their samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ddl.composed_sweep import Sweep
from ddl.schema import DISTRIBUTIONS

if TYPE_CHECKING:
    import numpy as np

MAX_BOUND = 2**53
"""Largest absolute value of a distribution's bounds: integers up to it are exact in every number format."""

_BOUNDS = {"uniform": "finite numbers", "loguniform": "finite numbers above 0", "randint": "whole numbers"}


def has_distribution(sweep: Sweep) -> bool:
    """True if an axis is sampled."""
    return any(isinstance(values, dict) for values in sweep.space.values())


def check_samples(sweep: Sweep, problems: list[str]) -> None:
    """Add to `problems` if an axis is a distribution and the number of samples is missing."""
    if sweep.file.samples == 0 and has_distribution(sweep):
        problems.append(f"{sweep.where['samples']}: samples: missing. An axis is a distribution: set how many values to sample.")


def axis_values(sweep: Sweep, key: str, values: Any, problems: list[str]) -> Sequence[Any]:
    """An axis's values: the list, or `samples` values of the distribution. Empty if the axis is invalid."""
    where = f"{sweep.where[f'space.{key}']}: task.{key}"
    if isinstance(values, list):
        if not values:
            problems.append(f"{where}: an axis without values. Give it some, or remove it.")
        return values
    kind, bounds = next(iter(values.items())) if isinstance(values, dict) and len(values) == 1 else ("", None)
    if kind not in DISTRIBUTIONS or not isinstance(bounds, list) or not bounds:
        problems.append(f"{where}: must be a list of values, or one of {', '.join(f'{{{name}: [...]}}' for name in DISTRIBUTIONS)}.")
        return []
    if kind == "choice":
        return [bounds[index] for index in _generator(sweep, key).integers(len(bounds), size=sweep.file.samples)]
    kinds = int if kind == "randint" else int | float
    numeric = all(isinstance(bound, kinds) and not isinstance(bound, bool) and abs(bound) <= MAX_BOUND for bound in bounds)
    if len(bounds) != 2 or not numeric or not bounds[0] < bounds[1] or (kind == "loguniform" and bounds[0] <= 0):
        problems.append(f"{where}: {kind} takes [low, high], {_BOUNDS[kind]}, low < high.")
        return []
    (low, high), generator = bounds, _generator(sweep, key)
    if kind == "randint":
        return [int(value) for value in generator.integers(low, high, size=sweep.file.samples)]
    if kind == "uniform":
        return [float(value) for value in generator.uniform(low, high, size=sweep.file.samples)]
    return [float(math.exp(value)) for value in generator.uniform(math.log(low), math.log(high), size=sweep.file.samples)]


def _generator(sweep: Sweep, key: str) -> np.random.Generator:
    """The generator of an axis's samples: its own, so that adding an axis does not change the samples of the others."""
    import numpy as np

    return np.random.default_rng(list(f"{sweep.name}/{key}".encode()))


def axis_ends(axis: Any) -> Sequence[Any]:
    """The smallest and largest value of a valid axis; all values of a list or choice."""
    if isinstance(axis, list):
        return axis
    ((kind, bounds),) = axis.items()
    return (bounds[0], bounds[1] - 1) if kind == "randint" else bounds if kind == "choice" else (float(bounds[0]), float(bounds[1]))
