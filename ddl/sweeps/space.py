"""Trials of a composed sweep: expands its space with every seed, and gives each trial its id."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from ddl.composed_sweep import Sweep
from ddl.sweeps.axes import axis_ends, axis_values, check_samples
from ddl.sweeps.points import SpacePoint, construct_task, expand_points, sample_name
from ddl.sweeps.space_checks import check_names, check_no_effect, check_shown, check_workers, duplicate, too_many
from ddl.tasks.task import Task


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
    values = {name: getattr(task, name) for name in changed}
    content = json.dumps([cls.__module__, cls.__qualname__, values], sort_keys=True, default=asdict)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def expand_trials(sweep: Sweep, problems: list[str]) -> list[Trial]:
    """All trials of a sweep. Every configuration gets its first seed before any gets its second.

    Mistakes (an empty axis, an invalid value, a duplicate configuration) are added to `problems`.
    """
    if too_many(sweep, problems):
        return []
    points = expand_points(sweep, problems)
    no_effect = check_no_effect(sweep, problems)
    check_shown(sweep, problems)
    check_names(sweep, points, problems)
    # Also the default of a hyperparameter that only other configurations name.
    swept = list(dict.fromkeys(key for point in points for key in point.swept))
    trials: list[Trial] = []
    known: dict[str, SpacePoint] = {}
    reported: set[str] = set()
    for seed in range(sweep.launch.first_seed, sweep.launch.first_seed + sweep.launch.most_seeds):
        for point in points:
            found: list[str] = []
            task = construct_task(sweep, point, seed, found)
            if task is not None:
                trial_id = trial_identity(task)
                if trial_id in known and not no_effect:
                    found = [duplicate(sweep, known[trial_id], point)]
                known[trial_id] = point
                trials.append(Trial(trial_id, len(trials), point.name, {f"task.{key}": getattr(task, key) for key in swept}, task))
            problems += [line for line in found if line not in reported]
            reported |= set(found)
        if reported or no_effect:
            break
    check_workers(sweep, [trial.task for trial in trials], problems)
    return trials


def sampled_trial(cls: type[Task], base: Mapping[str, Any], values: Mapping[str, Any], number: int, seed: int) -> Trial:
    """The trial at a sampled point: `values` override `base`. `check_ends` has ensured that every point is valid.

    Its position is given when it is added to the ledger. `number` counts the samples.
    """
    task = cls(**{**base, **values, "seed": seed})
    swept = {f"task.{key}": getattr(task, key) for key in values}
    return Trial(trial_identity(task), 0, sample_name(number, values), swept, task)


def check_ends(sweep: Sweep, problems: list[str]) -> None:
    """Check the axes of a search without sampling it: construct the task at both ends of every axis and at every listed value.

    Adds invalid axes and values to `problems`. A value between two valid ends is valid.
    """
    if too_many(sweep, problems):
        return
    check_shown(sweep, problems)
    axes = {key: axis for key in sweep.space if (axis := axis_values(sweep, key, sweep.space[key], problems))}
    check_samples(sweep, problems)
    first = {key: axis[0] for key, axis in axes.items()}
    tasks: list[Task] = []
    invalid: list[str] = []
    for key in axes:
        for value in axis_ends(sweep.space[key]):
            point = SpacePoint("", "", {**first, key: value}, dict.fromkeys(axes, "space"))
            task = construct_task(sweep, point, sweep.launch.first_seed, invalid)
            tasks += [task] if task else []
    problems += dict.fromkeys(invalid)
    check_workers(sweep, tasks, problems)
