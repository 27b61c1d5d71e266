"""Trials of a composed sweep: expands grids, named configurations, samples and seeds, and gives each trial its id."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np

from ddl.config import COMMAND_LINE, construct
from ddl.overrides import selection
from ddl.redaction import Redactor, printable
from ddl.schema import DISTRIBUTIONS, Sweep, label
from ddl.tasks.task import Task

MAX_TRIALS = 100_000
"""Largest number of trials in a sweep."""

MAX_BOUND = 2**53
"""Largest absolute value of a distribution's bounds: integers up to it are exact in every number format."""

_BOUNDS = {"uniform": "finite numbers", "loguniform": "finite numbers above 0", "randint": "whole numbers"}


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
        """All hyperparameters of the task by name, including the seed."""
        return {item.name: getattr(self.task, item.name) for item in fields(self.task)}


def trial_identity(task: Task) -> str:
    """Hash of the task's class and hyperparameters, including the seed.

    It does not depend on how the trial is run (executor, workers, retries, output). A hyperparameter that equals the default of its
    field is left out, so a task that gains one with a default keeps the ids of its earlier trials.
    """
    cls = type(task)
    changed = {item.name for item in fields(task) if item.default is MISSING or getattr(task, item.name) != item.default}
    values = {name: value for name, value in asdict(task).items() if name in changed}
    content = json.dumps([cls.__module__, cls.__qualname__, values], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def expand_trials(sweep: Sweep, problems: list[str]) -> list[Trial]:
    """All trials of a sweep. Every configuration gets its first seed before any gets its second.

    Mistakes (an empty axis, an invalid value, a duplicate configuration) are added to `problems`.
    """
    if _too_many(sweep, problems):
        return []
    points = _points(sweep, problems)
    no_effect = _check_no_effect(sweep, problems)
    _check_shown(sweep, problems)
    _check_names(sweep, points, problems)
    trials: list[Trial] = []
    known: dict[str, _Point] = {}
    reported: set[str] = set()
    for seed in range(sweep.launch.first_seed, sweep.launch.first_seed + sweep.launch.most_seeds):
        for point in points:
            found: list[str] = []
            task = _construct(sweep, point, seed, found)
            if task is not None:
                trial_id = trial_identity(task)
                if trial_id in known and not no_effect:
                    found = [_duplicate(sweep, known[trial_id], point)]
                known[trial_id] = point
                trials.append(Trial(trial_id, len(trials), point.name, {f"task.{key}": getattr(task, key) for key in point.swept}, task))
            problems += [line for line in found if line not in reported]
            reported |= set(found)
        if reported or no_effect:
            break
    _check_workers(sweep, [trial.task for trial in trials], problems)
    return trials


def _too_many(sweep: Sweep, problems: list[str]) -> bool:
    """True, with a line in `problems`, if the sweep has more than `MAX_TRIALS` trials. Nothing is expanded."""
    numbers = {"seeds": sweep.launch.most_seeds, "configurations": max(len(sweep.configurations), 1)}
    if _has_distribution(sweep):
        numbers["samples"] = max(sweep.file.samples, 1)
    if sweep.launch.search.algorithm != "tpe":  # tpe samples from lists too
        numbers |= {f"space.{key}": len(values) for key, values in sweep.space.items() if isinstance(values, list) and values}
    count = math.prod(numbers.values())
    if count > MAX_TRIALS:
        most = max(numbers, key=lambda key: numbers[key])
        key = most.replace("space.", "values of task.")
        problems.append(f"{sweep.where[most]}: {count:,} trials, more than the {MAX_TRIALS:,} a sweep may have. Use fewer {key}.")
    return count > MAX_TRIALS


def _check_no_effect(sweep: Sweep, problems: list[str]) -> bool:
    """True, with a line in `problems` for each axis, if configurations set the hyperparameter of an axis with several values."""
    found = False
    for key, axis in sweep.space.items():
        setting = [name for name, values in sweep.configurations.items() if key in values]
        several = len(axis) > 1 if isinstance(axis, list) else isinstance(axis, dict) and sweep.file.samples > 1
        if not setting or not several:
            continue
        found = True
        others = [name for name in sweep.configurations if name not in setting]
        shown = f"task.{key}" + (f"={_shortened(map(label, axis))}" if isinstance(axis, list) else "")
        if others:
            effect = f"has no effect on the configurations {_shortened(setting, ', ')}, which set task.{key} themselves"
            fix = f"Remove the axis, or take only the others: {selection(others)}"
        else:
            effect = f"has no effect, because each configuration sets task.{key} itself"
            fix = "Remove the axis, or remove the hyperparameter from the configurations"
        problems.append(f"{sweep.where[f'space.{key}']}: the axis {shown} {effect}. {fix}.")
    return found


def _shortened(texts: Iterable[str], separator: str = ",") -> str:
    """The first eight texts with separators."""
    texts = list(texts)
    return separator.join(texts[:8]) + (f"{separator}... ({len(texts)} of them)" if len(texts) > 8 else "")


def _check_shown(sweep: Sweep, problems: list[str]) -> None:
    """Add to `problems` what cannot be shown in the names of configurations: secrets, and characters that a terminal obeys."""
    redactor = Redactor()
    shown = [(f"space.{key}", f"task.{key}", text) for key, axis in sweep.space.items() for text in _texts(axis)]
    shown += [("configurations", "configurations", name) for name in sweep.configurations]
    shown += [
        (f"configurations.{name}.{key}", f"task.{key}", text)
        for name, values in sweep.configurations.items()
        for key, value in values.items()
        for text in _texts(value)
    ]
    for place, key, text in shown:
        where = sweep.where.get(place, COMMAND_LINE)
        if redactor.text(text) != text:
            problems.append(
                f"{where}: {key}: looks like a secret, and the names of configurations are shown everywhere. "
                "Read it from the environment in your code."
            )
        elif printable(text) != text:
            problems.append(f"{where}: {key}: {text[:100]!r} has characters that a terminal would obey. Remove them.")


def _texts(value: Any) -> Iterator[str]:
    """Every text in an axis or a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _check_names(sweep: Sweep, points: Sequence["_Point"], problems: list[str]) -> None:
    """Add to `problems` if two different points have one name, such as the values 1 and "1"."""
    known: dict[str, _Point] = {}
    for point in points:
        other = known.setdefault(point.name, point)
        for key in point.swept:
            first, second = other.swept.get(key), point.swept[key]
            if repr(first) != repr(second):
                where = _where(sweep, point, key)
                problems.append(
                    f"{where}: task.{key}: {first!r} and {second!r} give two configurations the name {point.name!r}. Change one."
                )
                return


def _duplicate(sweep: Sweep, first: "_Point", second: "_Point") -> str:
    """The message for two points whose trials are the same."""
    same = f"the configurations {first.name!r} and {second.name!r}"
    forced = [key for key in sweep.forced if first.swept.get(key) != second.swept.get(key)]
    if forced:
        return (
            f"command line: task.{forced[0]}={label(sweep.forced[forced[0]])} makes {same} the same. "
            f"Take one of them, as in {selection([first.configuration])}, or remove the override."
        )
    fix = "Take fewer samples, or list the values" if _has_distribution(sweep) else "Remove one"
    return f"{_where(sweep, second, next(iter(second.swept), 'seed'))}: {same} are the same. {fix}."


def _check_workers(sweep: Sweep, tasks: Sequence[Task], problems: list[str]) -> None:
    """Add to `problems` if the workers of a trial cannot train one of `tasks` together."""
    fewest, most = sweep.launch.resources.workers
    supported, strategy = sweep.task_class.strategies, sweep.launch.resources.strategy
    if most > 1 and not supported:
        problems.append(f"resources.num_workers: {most} workers cannot train a {sweep.file.task} trial together. Set it to 1.")
        return
    if most > 1 and strategy not in supported:
        problems.append(f"resources.strategy: the task {sweep.file.task} does not support {strategy}. Use {' or '.join(supported)}.")
    where = sweep.where.get("space.batch_size" if "batch_size" in sweep.space else "batch_size", "command line")
    multiple = math.lcm(*range(fewest, most + 1))
    fix = f"Use a multiple of {multiple}, or change" if multiple <= MAX_BOUND else "Change"
    for size in sorted({getattr(task, "batch_size", multiple) for task in tasks}):
        if unequal := [workers for workers in range(fewest, most + 1) if size % workers]:
            problems.append(f"{where}: task.batch_size: {size} is not divisible by {unequal[0]} workers. {fix} resources.num_workers.")


def sampled_trial(cls: type[Task], base: Mapping[str, Any], values: Mapping[str, Any], number: int, seed: int) -> Trial:
    """The trial at a sampled point: `values` override `base`. `check_ends` has ensured that every point is valid.

    Its position is given when it is added to the ledger. `number` counts the samples and is part of the configuration's name: two samples may agree in the six digits shown.
    """
    task = cls(**{**base, **values, "seed": seed})
    swept = {f"task.{key}": getattr(task, key) for key in values}
    return Trial(trial_identity(task), 0, _name(f"sample {number}", {key: _rounded(value) for key, value in values.items()}), swept, task)


def check_ends(sweep: Sweep, problems: list[str]) -> None:
    """Check the axes of a search without sampling it: construct the task at both ends of every axis and at every listed value.

    Adds invalid axes and values to `problems`. A value between two valid ends is valid.
    """
    if _too_many(sweep, problems):
        return
    _check_shown(sweep, problems)
    axes = {key: axis for key in sweep.space if (axis := _axis(sweep, key, sweep.space[key], problems))}
    _check_samples(sweep, problems)
    first = {key: axis[0] for key, axis in axes.items()}
    tasks: list[Task] = []
    invalid: list[str] = []
    for key in axes:
        for value in axis_ends(sweep.space[key]):
            point = _Point("", "", {**first, key: value}, dict.fromkeys(axes, "space"))
            task = _construct(sweep, point, sweep.launch.first_seed, invalid)
            tasks += [task] if task else []
    problems += dict.fromkeys(invalid)
    _check_workers(sweep, tasks, problems)


def axis_ends(axis: Any) -> Sequence[Any]:
    """The smallest and largest value of a valid axis; all values of a list or choice."""
    if isinstance(axis, list):
        return axis
    ((kind, bounds),) = axis.items()
    return (bounds[0], bounds[1] - 1) if kind == "randint" else bounds if kind == "choice" else (float(bounds[0]), float(bounds[1]))


@dataclass(frozen=True)
class _Point:
    """A configuration without a seed.

    `name` is its name in tables, `configuration` the named configuration or "", `swept` its varied values, `sections` the YAML
    section of each value.
    """

    name: str
    configuration: str
    swept: Mapping[str, Any]
    sections: Mapping[str, str]


def _construct(sweep: Sweep, point: _Point, seed: int, problems: list[str]) -> Task | None:
    values = {**sweep.base, **point.swept, **sweep.forced, "seed": seed}
    return construct(sweep.task_class, values, lambda key: _where(sweep, point, key), "task.", problems)


def _where(sweep: Sweep, point: _Point, key: str) -> str:
    """File and line, or "command line", that assigns the hyperparameter `key` (or an element of it, `widths.1`)."""
    name = key.partition(".")[0]
    if name in point.sections and name not in sweep.forced:
        return sweep.where[f"{point.sections[name]}.{name}"]
    return sweep.where.get(name, "command line")


def _has_distribution(sweep: Sweep) -> bool:
    return any(isinstance(values, dict) for values in sweep.space.values())


def _check_samples(sweep: Sweep, problems: list[str]) -> None:
    if sweep.file.samples == 0 and _has_distribution(sweep):
        problems.append(f"{sweep.where['samples']}: samples: missing. An axis is a distribution: set how many values to sample.")


def _points(sweep: Sweep, problems: list[str]) -> list[_Point]:
    """Every configuration of the valid axes. Invalid axes are left out, so that the values of the others are still checked."""
    samples = sweep.file.samples if _has_distribution(sweep) else 1
    _check_samples(sweep, problems)
    named = sweep.configurations or {"": {}}
    axes = {key: axis for key in sweep.space if (axis := _axis(sweep, key, sweep.space[key], problems))}
    sampled = {key: axes.pop(key) for key in list(axes) if isinstance(sweep.space[key], dict)}
    expanded: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, str]]] = []
    for index in range(samples if sampled else 1):
        sample = {key: axis[index] for key, axis in sampled.items()}
        for configuration, values in named.items():
            sections = dict.fromkeys([*axes, *sampled], "space") | dict.fromkeys(values, f"configurations.{configuration}")
            for grid in itertools.product(*axes.values()):
                varied = dict(zip(axes, grid, strict=True)) | sample
                expanded.append((configuration, varied, {**varied, **values}, sections))
    alone = all(_is_word(value) for _, varied, _, _ in expanded for value in varied.values())
    names = [
        _name(configuration, {key: _rounded(value) if key in sampled else label(value) for key, value in varied.items()}, alone)
        for configuration, varied, _, _ in expanded
    ]
    if len(set(names)) < len(names):  # two samples agree in six digits, or 1 and 1.0 are values of one axis
        names = [
            _name(configuration, {key: str(value) for key, value in varied.items()}, alone) for configuration, varied, _, _ in expanded
        ]
    if names == ["default"] and sweep.function is not None:
        names = [_name("", {key: label(value) for key, value in sweep.forced.items()})]
    # Every configuration has a value in every column, even if it names other hyperparameters.
    columns = list(dict.fromkeys(key for _, _, swept, _ in expanded for key in swept))
    points = []
    for name, (configuration, _, swept, sections) in zip(names, expanded, strict=True):
        values = {**sweep.base, **swept}
        points.append(_Point(name, configuration, {key: values[key] for key in columns if key in values}, sections))
    return points


def _axis(sweep: Sweep, key: str, values: Any, problems: list[str]) -> Sequence[Any]:
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
    # Each axis has its own generator, so that adding an axis does not change the samples of the others.
    generator = np.random.default_rng(list(f"{sweep.name}/{key}".encode()))
    if kind == "choice":
        return [bounds[index] for index in generator.integers(len(bounds), size=sweep.file.samples)]
    kinds = int if kind == "randint" else int | float
    numeric = all(isinstance(bound, kinds) and not isinstance(bound, bool) and abs(bound) <= MAX_BOUND for bound in bounds)
    if len(bounds) != 2 or not numeric or not bounds[0] < bounds[1] or (kind == "loguniform" and bounds[0] <= 0):
        problems.append(f"{where}: {kind} takes [low, high], {_BOUNDS[kind]}, low < high.")
        return []
    low, high = bounds
    if kind == "randint":
        return [int(value) for value in generator.integers(low, high, size=sweep.file.samples)]
    if kind == "uniform":
        return [float(value) for value in generator.uniform(low, high, size=sweep.file.samples)]
    return [float(math.exp(value)) for value in generator.uniform(math.log(low), math.log(high), size=sweep.file.samples)]


def _name(configuration: str, varied: Mapping[str, str], alone: bool = False) -> str:
    """A configuration's name in tables: `key=value` for each key that varies. `varied` has values as text.

    `alone`: the value alone if only one key varies.
    """
    if alone and not configuration and len(varied) == 1:
        return next(iter(varied.values()))
    parts = [configuration] if configuration else []
    return ", ".join(parts + [f"{key}={text}" for key, text in varied.items()]) or "default"


def _is_word(value: object) -> bool:
    """True for text that says by itself what it is, such as `adam`; a bare number or `True` could be of any key."""
    return isinstance(value, str) and value[:1].isalpha()


def _rounded(value: object) -> str:
    """A sampled value as text: all 16 digits of a random number would only make tables wider."""
    return f"{value:g}" if isinstance(value, float) else str(value)
