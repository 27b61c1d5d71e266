"""From a composed sweep to its trials: grids, named configurations, samples, seeds, and each trial's identity."""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ddl.config import build, label
from ddl.schema import Sweep
from ddl.tasks.task import Task

MAX_TRIALS = 100_000
_DISTRIBUTIONS = ("uniform", "loguniform", "randint", "choice")


@dataclass(frozen=True)
class Trial:
    """One configuration and seed. `configuration` is its name without the seed, `swept` maps `task.x` to what varies."""

    trial_id: str
    position: int
    configuration: str
    swept: Mapping[str, Any]
    task: Task

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return {name: getattr(self.task, name) for name in self.task.__dataclass_fields__}


def identity(task: Task) -> str:
    """The hash of what a trial computes: its task's class and hyperparameters, its seed among them.

    How it is run (executor, processes, retries, output) is not part of it, so a trial is the same trial anywhere.
    """
    cls = type(task)
    content = json.dumps([cls.__module__, cls.__qualname__, asdict(task)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def expand(sweep: Sweep, problems: list[str]) -> list[Trial]:
    """All trials, every configuration's first seed before any second, so that a run cut short has compared them all.

    What is wrong (an axis without values, a value its hyperparameter may not have, a configuration twice) goes into
    `problems`.
    """
    points = _points(sweep, problems)
    trials: list[Trial] = []
    seen: dict[str, str] = {}
    reported: set[str] = set()
    for seed in range(sweep.launch.first_seed, sweep.launch.first_seed + sweep.launch.seeds):
        for name, swept in points:
            values = {**sweep.base, **swept, **sweep.forced, "seed": seed}
            where = sweep.where | {key: f"{sweep.where.get(key, 'command line')}" for key in swept}
            found: list[str] = []
            task = build(sweep.task_class, values, lambda key, where=where: where.get(key, sweep.name), "task.", found)
            problems += [line for line in found if line not in reported]
            reported |= set(found)
            if task is None:
                continue
            trial_id = identity(task)
            if trial_id in seen:
                problems.append(f"{sweep.name}: the configurations {seen[trial_id]!r} and {name!r} are the same. Remove one.")
                return []
            seen[trial_id] = name
            trials.append(Trial(trial_id, len(trials), name, {f"task.{key}": getattr(task, key) for key in swept}, task))
        if reported:
            break
    return trials


def _points(sweep: Sweep, problems: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """(name, hyperparameters that vary) of every configuration."""
    before = len(problems)
    axes = {key: _axis(sweep, key, values, problems) for key, values in sweep.space.items()}
    named = sweep.configurations or {"": {}}
    sampled = any(isinstance(values, dict) for values in sweep.space.values())
    if sampled and sweep.file.samples == 0:
        problems.append(f"{sweep.name}: samples: missing. An axis is a distribution, so say how many draws to take.")
    grid = {key: values for key, values in axes.items() if not isinstance(sweep.space[key], dict)}
    count = len(named) * math.prod(len(values) for values in grid.values()) * (sweep.file.samples if sampled else 1) * sweep.launch.seeds
    if count > MAX_TRIALS:
        problems.append(f"{sweep.name}: {count:,} trials, more than the {MAX_TRIALS:,} a sweep may have. Shorten an axis.")
    if len(problems) > before:
        return []
    points = []
    for draw in range(sweep.file.samples if sampled else 1):
        drawn = {key: axes[key][draw] for key in sweep.space if isinstance(sweep.space[key], dict)}
        for configuration, values in named.items():
            for chosen in itertools.product(*grid.values()):
                varied = dict(zip(grid, chosen, strict=True)) | drawn
                points.append((_name(configuration, varied), varied | values))
    # Configurations that name different hyperparameters still share their columns.
    columns = list(dict.fromkeys(key for _, values in points for key in values))
    return [(name, {key: values.get(key, sweep.base.get(key)) for key in columns}) for name, values in points]


def _axis(sweep: Sweep, key: str, values: Any, problems: list[str]) -> Sequence[Any]:
    """An axis's values: the list, or as many draws from a distribution as there are samples."""
    where = f"{sweep.where.get(key, 'command line')}: task.{key}"
    if isinstance(values, list):
        if not values:
            problems.append(f"{where}: an axis without values. Give it some, or remove it.")
        return values
    kind, bounds = next(iter(values.items())) if isinstance(values, dict) and len(values) == 1 else ("", None)
    if kind not in _DISTRIBUTIONS or not isinstance(bounds, list) or not bounds:
        problems.append(f"{where}: must be a list of values, or one of {', '.join(f'{{{name}: [...]}}' for name in _DISTRIBUTIONS)}.")
        return []
    # Each axis has its own stream, so that a further axis leaves the draws of the others as they were.
    generator = np.random.default_rng(list(f"{sweep.name}/{key}".encode()))
    if kind == "choice":
        return [bounds[index] for index in generator.integers(len(bounds), size=sweep.file.samples)]
    numeric = all(isinstance(bound, int | float) and not isinstance(bound, bool) and math.isfinite(bound) for bound in bounds)
    if len(bounds) != 2 or not numeric or not bounds[0] < bounds[1] or (kind == "loguniform" and bounds[0] <= 0):
        problems.append(f"{where}: {kind} takes [low, high], finite, low < high{', above 0' if kind == 'loguniform' else ''}.")
        return []
    low, high = bounds
    if kind == "randint":
        return [int(value) for value in generator.integers(low, high, size=sweep.file.samples)]
    if kind == "uniform":
        return [float(value) for value in generator.uniform(low, high, size=sweep.file.samples)]
    return [float(math.exp(value)) for value in generator.uniform(math.log(low), math.log(high), size=sweep.file.samples)]


def _name(configuration: str, varied: Mapping[str, Any]) -> str:
    """What tables call it: the value alone where one key varies, else `key=value` each."""
    if not configuration and len(varied) == 1:
        return label(next(iter(varied.values())))
    parts = [configuration] if configuration else []
    return ", ".join(parts + [f"{key}={label(value)}" for key, value in varied.items()]) or "default"
