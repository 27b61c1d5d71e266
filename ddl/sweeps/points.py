"""Points of a sweep's space: every configuration without a seed, with its name and the task that it makes."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ddl.composed_sweep import Sweep
from ddl.config import construct
from ddl.schema import label
from ddl.sweeps.axes import axis_values, check_samples, has_distribution
from ddl.tasks.hyperparameters import is_recordable
from ddl.tasks.task import Task


@dataclass(frozen=True)
class SpacePoint:
    """A configuration without a seed.

    `name` is its name in tables, `configuration` the named configuration or "", `swept` its varied values, `sections` the YAML
    section of each value.
    """

    name: str
    configuration: str
    swept: Mapping[str, Any]
    sections: Mapping[str, str]


def expand_points(sweep: Sweep, problems: list[str]) -> list[SpacePoint]:
    """Every configuration of the valid axes. Invalid axes are left out, so that the values of the others are still checked."""
    samples = sweep.file.samples if has_distribution(sweep) else 1
    check_samples(sweep, problems)
    named = sweep.configurations or {"": {}}
    axes = {key: axis for key in sweep.space if (axis := axis_values(sweep, key, sweep.space[key], problems))}
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
        points.append(SpacePoint(name, configuration, {key: values[key] for key in columns if key in values}, sections))
    return points


def construct_task(sweep: Sweep, point: SpacePoint, seed: int, problems: list[str]) -> Task | None:
    """The task at a point with a seed; None, with its mistakes in `problems`, if a value is invalid."""
    values = {**sweep.base, **point.swept, **sweep.forced, "seed": seed}
    task: Task | None = construct(sweep.task_class, values, lambda key: assigned_at(sweep, point, key), "task.", problems)
    unrecordable = [] if task is None else [item.name for item in fields(task) if not is_recordable(getattr(task, item.name))]
    for key in unrecordable:
        problems.append(
            f"{assigned_at(sweep, point, key)}: task.{key}: {getattr(task, key)!r} cannot be recorded. A hyperparameter is a number, a text, "
            "or a list of them; an enumeration is a StrEnum."
        )
    return None if unrecordable else task


def assigned_at(sweep: Sweep, point: SpacePoint, key: str) -> str:
    """File and line, or "command line", that assigns the hyperparameter `key` (or an element of it, `widths.1`)."""
    name = key.partition(".")[0]
    if name in point.sections and name not in sweep.forced:
        return sweep.where[f"{point.sections[name]}.{name}"]
    return sweep.where.get(name, "command line")


def sample_name(number: int, values: Mapping[str, Any]) -> str:
    """The name of a configuration that a search samples. `number` is part of it: two samples may agree in the six digits shown."""
    return _name(f"sample {number}", {key: _rounded(value) for key, value in values.items()})


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
