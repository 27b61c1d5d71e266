"""The sweep that `config.py` composes of its YAML, its task's YAML, launch.yaml and the command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ddl.schema import Launch, SweepFile
from ddl.tasks.task import Task


@dataclass(frozen=True)
class Sweep:
    """A composed sweep. Hyperparameters are named without `task.`.

    A trial's hyperparameters are `base`, then its point of `space`, then its configuration's values, then `forced`.
    """

    name: str
    """Stem of the sweep's file, or name of the function."""
    scale: str
    """`smoke`, `sample` or `paper`; empty if the sweep has no scales."""
    file: SweepFile
    """Content of the sweep's YAML, or what was said of a function in its place."""
    launch: Launch
    """Launch settings after all overrides."""
    task_class: type[Task]
    """Class of the task."""
    base: Mapping[str, Any]
    """Values from the task's YAML, `set` and the scale."""
    space: Mapping[str, Any]
    """Axes of the grid and distributions."""
    configurations: Mapping[str, Mapping[str, Any]]
    """Hyperparameters of each named configuration."""
    forced: Mapping[str, Any]
    """Hyperparameters from the command line."""
    where: Mapping[str, str]
    """Source of each key's value: `file:line`, or `command line`."""
    code_folder: str = ""
    """Folder that the user's own code is imported from; empty if there is none, or if it is installed."""
    function: Callable[..., Any] | None = None
    """Function that the sweep trains, in place of a task that a YAML names."""
    measurements: int = 0
    """Number of measurements of `function` in one trial; 0 if unknown."""
