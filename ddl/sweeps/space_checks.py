"""Checks of a sweep's space as a whole: too many trials, axes without effect, duplicates, names that cannot be shown, workers."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ddl.composed_sweep import Sweep
from ddl.config import COMMAND_LINE
from ddl.overrides import selection
from ddl.redaction import Redactor, printable
from ddl.schema import label
from ddl.sweeps.axes import MAX_BOUND, has_distribution
from ddl.sweeps.points import SpacePoint, assigned_at
from ddl.tasks.task import Task

MAX_TRIALS = 100_000
"""Largest number of trials in a sweep."""


def too_many(sweep: Sweep, problems: list[str]) -> bool:
    """True, with a line in `problems`, if the sweep has more than `MAX_TRIALS` trials. Nothing is expanded."""
    numbers = {"seeds": sweep.launch.most_seeds, "configurations": max(len(sweep.configurations), 1)}
    if has_distribution(sweep):
        numbers["samples"] = max(sweep.file.samples, 1)
    if sweep.launch.search.algorithm != "tpe":  # tpe samples from lists too
        numbers |= {f"space.{key}": len(values) for key, values in sweep.space.items() if isinstance(values, list) and values}
    count = math.prod(numbers.values())
    if count > MAX_TRIALS:
        most = max(numbers, key=lambda key: numbers[key])
        key = most.replace("space.", "values of task.")
        problems.append(f"{sweep.where[most]}: {count:,} trials, more than the {MAX_TRIALS:,} a sweep may have. Use fewer {key}.")
    return count > MAX_TRIALS


def check_no_effect(sweep: Sweep, problems: list[str]) -> bool:
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


def check_shown(sweep: Sweep, problems: list[str]) -> None:
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


def check_names(sweep: Sweep, points: Sequence[SpacePoint], problems: list[str]) -> None:
    """Add to `problems` if two different points have one name, such as the values 1 and "1"."""
    known: dict[str, SpacePoint] = {}
    for point in points:
        other = known.setdefault(point.name, point)
        for key in point.swept:
            first, second = other.swept.get(key), point.swept[key]
            if repr(first) != repr(second):
                where = assigned_at(sweep, point, key)
                problems.append(
                    f"{where}: task.{key}: {first!r} and {second!r} give two configurations the name {point.name!r}. Change one."
                )
                return


def duplicate(sweep: Sweep, first: SpacePoint, second: SpacePoint) -> str:
    """The message for two points whose trials are the same."""
    same = f"the configurations {first.name!r} and {second.name!r}"
    forced = [key for key in sweep.forced if first.swept.get(key) != second.swept.get(key)]
    if forced:
        return (
            f"command line: task.{forced[0]}={label(sweep.forced[forced[0]])} makes {same} the same. "
            f"Take one of them, as in {selection([first.configuration])}, or remove the override."
        )
    fix = "Take fewer samples, or list the values" if has_distribution(sweep) else "Remove one"
    return f"{assigned_at(sweep, second, next(iter(second.swept), 'seed'))}: {same} are the same. {fix}."


def check_workers(sweep: Sweep, tasks: Sequence[Task], problems: list[str]) -> None:
    """Add to `problems` if the workers of a trial cannot train one of `tasks` together."""
    fewest, most = sweep.launch.resources.workers
    supported, strategy = sweep.task_class.strategies, sweep.launch.resources.strategy
    if most > 1 and not supported:
        problems.append(f"resources.num_workers: {most} workers cannot train a {sweep.file.task} trial together. Set it to 1.")
        return
    if most > 1 and strategy not in supported:
        problems.append(f"resources.strategy: the task {sweep.file.task} does not support {strategy}. Use {' or '.join(supported)}.")
    if most == 1:  # a user's `batch_size` may then be anything
        return
    where = sweep.where.get("space.batch_size" if "batch_size" in sweep.space else "batch_size", "command line")
    multiple = math.lcm(*range(fewest, most + 1))
    fix = f"Use a multiple of {multiple}, or change" if multiple <= MAX_BOUND else "Change"
    for size in sorted({getattr(task, "batch_size", multiple) for task in tasks}):
        if unequal := [workers for workers in range(fewest, most + 1) if size % workers]:
            problems.append(f"{where}: task.batch_size: {size} is not divisible by {unequal[0]} workers. {fix} resources.num_workers.")
