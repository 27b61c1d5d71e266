"""From a composed sweep to its trials: grids, named configurations, samples, seeds, and each trial's identity."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ddl.config import construct
from ddl.schema import Sweep, label
from ddl.tasks.task import Task

MAX_TRIALS = 100_000
MAX_BOUND = 2**53
"""Of an axis that is a distribution: far enough for any hyperparameter, and exact in every number format."""

_DISTRIBUTIONS = ("uniform", "loguniform", "randint", "choice")
_SORTS = {"uniform": "finite numbers", "loguniform": "finite numbers above 0", "randint": "whole numbers"}


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
        return {item.name: getattr(self.task, item.name) for item in fields(self.task)}


def trial_identity(task: Task) -> str:
    """The hash of what a trial computes: its task's class and hyperparameters, its seed among them.

    How it is run (executor, processes, retries, output) is not part of it, so a trial is the same trial anywhere.
    """
    cls = type(task)
    content = json.dumps([cls.__module__, cls.__qualname__, asdict(task)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def expand_trials(sweep: Sweep, problems: list[str]) -> list[Trial]:
    """All trials, every configuration's first seed before any second, so that a run cut short has compared them all.

    What is wrong (an axis without values, a value its hyperparameter may not have, a configuration twice) goes into
    `problems`.
    """
    points = _points(sweep, problems)
    trials: list[Trial] = []
    seen: dict[str, str] = {}
    reported: set[str] = set()
    for seed in range(sweep.launch.first_seed, sweep.launch.first_seed + sweep.launch.seeds):
        for point in points:
            values = {**sweep.base, **point.swept, **sweep.forced, "seed": seed}
            found: list[str] = []
            task = construct(sweep.task_class, values, lambda key, point=point: _where(sweep, point, key), "task.", found)
            if task is not None:
                trial_id = trial_identity(task)
                if trial_id in seen:
                    mend = "Take fewer samples, or list the values" if _sampled(sweep) else "Remove one"
                    place = _where(sweep, point, next(iter(point.swept), "seed"))
                    found = [f"{place}: the configurations {seen[trial_id]!r} and {point.name!r} are the same. {mend}."]
                seen[trial_id] = point.name
                trials.append(Trial(trial_id, len(trials), point.name, {f"task.{key}": getattr(task, key) for key in point.swept}, task))
            problems += [line for line in found if line not in reported]
            reported |= set(found)
        if reported:
            break
    _check_workers(sweep, [trial.task for trial in trials], problems)
    return trials


def _check_workers(sweep: Sweep, tasks: Sequence[Task], problems: list[str]) -> None:
    """What the workers of a trial cannot do together goes into `problems`."""
    fewest, most = sweep.launch.resources.workers
    known, strategy = sweep.task_class.strategies, sweep.launch.resources.strategy
    if most > 1 and not known:
        problems.append(f"resources.num_workers: {most} workers would each train the whole of a {sweep.file.task} trial. Ask for 1.")
        return
    if most > 1 and strategy not in known:
        problems.append(f"resources.strategy: {strategy} cannot train the task {sweep.file.task}. Ask for {' or '.join(known)}.")
    where = sweep.where.get("space.batch_size" if "batch_size" in sweep.space else "batch_size", "command line")
    multiple = math.lcm(*range(fewest, most + 1))
    for size in sorted({getattr(task, "batch_size", multiple) for task in tasks}):
        if unequal := [workers for workers in range(fewest, most + 1) if size % workers]:
            problems.append(
                f"{where}: task.batch_size: {size} cannot be shared equally by {unequal[0]} workers. "
                f"Make it a multiple of {multiple}, or ask for other resources.num_workers."
            )


def sampled_trial(cls: type[Task], base: Mapping[str, Any], values: Mapping[str, Any], number: int, seed: int, position: int) -> Trial:
    """The trial at a drawn point: `values` over `base`. `check_ends` has made sure that every point can be built.

    `number` counts the draws, and stands in the configuration's name: six digits might not tell two draws apart.
    """
    task = cls(**{**base, **values, "seed": seed})
    swept = {f"task.{key}": getattr(task, key) for key in values}
    return Trial(trial_identity(task), position, _name(f"draw {number}", values, label), swept, task)


def check_ends(sweep: Sweep, problems: list[str]) -> None:
    """Both ends of every sampled axis, and each listed value, are built once: what their hyperparameter refuses, and what
    is wrong with an axis itself, goes into `problems`. What an annotation allows at both ends it allows between them."""
    axes = {key: axis for key in sweep.space if (axis := _axis(sweep, key, sweep.space[key], problems))}
    if sweep.file.samples == 0:
        problems.append(f"{sweep.where['samples']}: samples: missing. An axis is a distribution, so say how many draws to take.")
    first = {key: axis[0] for key, axis in axes.items()}
    tasks: list[Task] = []
    for key in axes:
        for value in axis_ends(sweep.space[key]):
            point = _Point("", {**first, key: value}, dict.fromkeys(axes, "space"))
            found: list[str] = []
            values = {**sweep.base, **point.swept, **sweep.forced, "seed": sweep.launch.first_seed}
            task = construct(sweep.task_class, values, lambda name, point=point: _where(sweep, point, name), "task.", found)
            problems += [line for line in found if line not in problems]
            tasks += [task] if task else []
    _check_workers(sweep, tasks, problems)


def axis_ends(axis: Any) -> Sequence[Any]:
    """The least and the greatest value of a sound axis; of one that lists its values, all."""
    if isinstance(axis, list):
        return axis
    ((kind, bounds),) = axis.items()
    return (bounds[0], bounds[1] - 1) if kind == "randint" else bounds if kind == "choice" else (float(bounds[0]), float(bounds[1]))


@dataclass(frozen=True)
class _Point:
    """A configuration before its seed: its name in tables, what varies, and the section each of these was given in."""

    name: str
    swept: Mapping[str, Any]
    sections: Mapping[str, str]


def _where(sweep: Sweep, point: _Point, key: str) -> str:
    """Who gave the point this hyperparameter (or an element of it, `widths.1`)."""
    name = key.partition(".")[0]
    if name in point.sections and name not in sweep.forced:
        return sweep.where[f"{point.sections[name]}.{name}"]
    return sweep.where.get(name, "command line")


def _sampled(sweep: Sweep) -> bool:
    return any(isinstance(values, dict) for values in sweep.space.values())


def _points(sweep: Sweep, problems: list[str]) -> list[_Point]:
    """Every configuration; those of the sound axes alone where others are not, so that their values are looked at too."""
    samples = sweep.file.samples if _sampled(sweep) else 1
    if samples == 0:
        problems.append(f"{sweep.where['samples']}: samples: missing. An axis is a distribution, so say how many draws to take.")
    named = sweep.configurations or {"": {}}
    lengths = [len(values) for values in sweep.space.values() if isinstance(values, list) and values]
    count = len(named) * math.prod(lengths) * max(samples, 1) * sweep.launch.seeds
    if count > MAX_TRIALS:
        problems.append(f"{sweep.where['space']}: {count:,} trials, more than the {MAX_TRIALS:,} a sweep may have. Shorten an axis.")
        return []
    axes = {key: axis for key in sweep.space if (axis := _axis(sweep, key, sweep.space[key], problems))}
    drawn = {key: axes.pop(key) for key in list(axes) if isinstance(sweep.space[key], dict)}
    found: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, str]]] = []
    for draw in range(samples if drawn else 1):
        draws = {key: axis[draw] for key, axis in drawn.items()}
        for configuration, values in named.items():
            sections = dict.fromkeys([*axes, *drawn], "space") | dict.fromkeys(values, f"configurations.{configuration}")
            for chosen in itertools.product(*axes.values()):
                varied = dict(zip(axes, chosen, strict=True)) | draws
                found.append((configuration, varied, {**varied, **values}, sections))
    names = [_name(configuration, varied, label) for configuration, varied, _, _ in found]
    if len(set(names)) < len(names):  # six digits do not tell them apart
        names = [_name(configuration, varied, str) for configuration, varied, _, _ in found]
    # Configurations that name different hyperparameters still share their columns.
    columns = list(dict.fromkeys(key for _, _, swept, _ in found for key in swept))
    points = []
    for name, (_, _, swept, sections) in zip(names, found, strict=True):
        given = {**sweep.base, **swept}
        points.append(_Point(name, {key: given[key] for key in columns if key in given}, sections))
    return points


def _axis(sweep: Sweep, key: str, values: Any, problems: list[str]) -> Sequence[Any]:
    """An axis's values: the list, or as many draws from a distribution as there are samples."""
    where = f"{sweep.where[f'space.{key}']}: task.{key}"
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
    kinds = int if kind == "randint" else int | float
    numeric = all(isinstance(bound, kinds) and not isinstance(bound, bool) and abs(bound) <= MAX_BOUND for bound in bounds)
    if len(bounds) != 2 or not numeric or not bounds[0] < bounds[1] or (kind == "loguniform" and bounds[0] <= 0):
        problems.append(f"{where}: {kind} takes [low, high], {_SORTS[kind]}, low < high.")
        return []
    low, high = bounds
    if kind == "randint":
        return [int(value) for value in generator.integers(low, high, size=sweep.file.samples)]
    if kind == "uniform":
        return [float(value) for value in generator.uniform(low, high, size=sweep.file.samples)]
    return [float(math.exp(value)) for value in generator.uniform(math.log(low), math.log(high), size=sweep.file.samples)]


def _name(configuration: str, varied: Mapping[str, Any], shown: Callable[[object], str]) -> str:
    """What tables call it: the value alone where one key varies, else `key=value` each."""
    if not configuration and len(varied) == 1:
        return shown(next(iter(varied.values())))
    parts = [configuration] if configuration else []
    return ", ".join(parts + [f"{key}={shown(value)}" for key, value in varied.items()]) or "default"
