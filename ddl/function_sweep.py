"""Sweeps over a function of the user's, without any YAML: from `train.py:train` on the command line, or from `ddl.sweep`."""

import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ddl.composed_sweep import Sweep
from ddl.config import COMMAND_LINE, construct
from ddl.hints import did_you_mean
from ddl.metric_direction import likely_mode
from ddl.overrides import SweepDraft, apply_overrides
from ddl.schema import Launch, SweepFile
from ddl.tasks.function import FunctionTask, function_task
from ddl.tasks.hyperparameters import is_recordable
from ddl.tasks.loading import load_task_class
from ddl.tasks.user_code import locate
from ddl.yamlfile import FOLDER, read_yaml


@dataclass(frozen=True, eq=False)
class FunctionSweep:
    """A sweep over a function, in place of a sweep's YAML.

    function: trains a model and yields its measurements, see `ddl.tasks.function`. module: name that its module is imported by.
    code_folder: folder that the module is imported from, or "". space, configurations, samples: as in a sweep's YAML, but
    hyperparameters are named without `task.`. metric: name of the compared measurement, or "" if an override names it. mode: max, min, or
    "" to decide by the metric's name. measurements: their number in one trial, 0 if unknown.
    """

    function: Callable[..., Any]
    module: str
    code_folder: str
    space: Mapping[str, Any]
    configurations: Mapping[str, Mapping[str, Any]]
    metric: str = ""
    mode: str = ""
    samples: int = 0
    title: str = ""
    measurements: int = 0

    @property
    def name(self) -> str:
        """Name of the sweep: the function's."""
        return self.function.__qualname__.rpartition(".")[2].strip("<>")

    def call(self, overrides: Sequence[str]) -> str:
        """The call of `ddl.sweep` that makes this sweep with these overrides."""
        names = ("metric", "mode", "configurations", "samples", "measurements", "title")
        given = {name: getattr(self, name) for name in names} | {"overrides": list(overrides)}
        named = ", ".join(f"{name}={value!r}" for name, value in given.items() if value)
        return f"ddl.sweep({self.name}, {self.space!r}, {named})"


def find_function(reference: str, problems: list[str]) -> FunctionSweep | None:
    """The sweep over the function at a `reference` for which `is_reference` is true."""
    try:
        path, folder = locate(reference, [Path()])
        task_class = load_task_class(path, folder)
    except ValueError as error:
        problems.append(f"--sweep {reference}: {error}")
        return None
    if not issubclass(task_class, FunctionTask):
        problems.append(f"--sweep {reference}: is a task, not a function. Write a sweep's YAML with `task: {reference}`.")
        return None
    return FunctionSweep(task_class._function, task_class.__module__, folder, {}, {})


def compose_function_sweep(sweep: FunctionSweep, overrides: Sequence[str], problems: list[str]) -> Sweep | None:
    """Compose a sweep over a function, with Hydra overrides applied. Problems as in `config.compose_sweep`."""
    try:
        task_class = function_task(sweep.function, sweep.module)
    except ValueError as error:
        problems.append(str(error))
        return None
    names = [item.name for item in fields(task_class) if item.name != "seed"]
    launch_source = read_yaml(FOLDER / "launch.yaml", problems)
    draft = _draft(sweep, names, launch_source.values, problems)
    settings = {*draft.launch, *draft.file}
    bare = set(names) - settings
    problems += [
        f"command line: {text}: {key} is a setting and a parameter of {sweep.name}. Write task.{text} for the parameter, or rename it."
        for text in overrides
        if (key := text.partition("=")[0]) in settings & set(names)
    ]
    overridden = apply_overrides(draft, [f"task.{text}" if text.partition("=")[0] in bare else text for text in overrides], names, problems)

    def where_launch(key: str) -> str:
        return COMMAND_LINE if key in overridden else launch_source.where(key)

    launch = construct(Launch, draft.launch, where_launch, "", problems) or construct(Launch, launch_source.values, where_launch, "", [])
    measurements = draft.file["measurements"]
    if not isinstance(measurements, int) or measurements < 0:
        problems.append(f"measurements: must be a whole number, not {measurements!r}.")
        return None
    file = _file(sweep, draft, overridden, problems)
    if launch is None or file is None:
        return None
    _check_comparisons(sweep.name, launch, task_class, measurements, where_launch, problems)
    where = dict.fromkeys(names, _place(sweep.function)) | dict.fromkeys(draft.forced, COMMAND_LINE)
    where |= {key: COMMAND_LINE if key in overridden else key for key in ("space", "configurations", "samples", "metric.name")}
    where |= {f"space.{key}": COMMAND_LINE if f"task.{key}" in overridden else "space" for key in draft.space}
    where |= {f"configurations.{name}.{key}": "configurations" for name, values in draft.configurations.items() for key in values}
    where |= {"seed": where_launch("first_seed"), "seeds": where_launch("seeds")}
    return Sweep(
        name=sweep.name,
        scale="",
        file=file,
        launch=launch,
        task_class=function_task(sweep.function, sweep.module, measurements),
        base={},
        space=draft.space,
        configurations=draft.configurations,
        forced=draft.forced,
        where=where,
        code_folder=sweep.code_folder,
        function=sweep.function,
        measurements=measurements,
    )


def _draft(sweep: FunctionSweep, names: Sequence[str], launch: Mapping[str, Any], problems: list[str]) -> SweepDraft:
    """The sweep before overrides. `names` are those of the function's hyperparameters."""
    given = sweep.configurations
    if not isinstance(given, Mapping):
        problems.append(f"configurations: must be a dictionary of names and hyperparameters, not {_short(given)}.")
        given = {}
    configurations = {str(name): _known(values, names, f"configurations.{name}", problems) for name, values in given.items()}
    if len(configurations) < len(given):
        problems.append(f"configurations: {_short(list(given))}: two of them have the same name as text. Rename one.")
    metric = {"name": sweep.metric, "mode": sweep.mode}
    return SweepDraft(
        launch=dict(launch),
        file={"samples": sweep.samples, "metric": metric, "measurements": sweep.measurements},
        space=_known(sweep.space, names, "space", problems),
        configurations=configurations,
        forced={},
    )


def _check_comparisons(
    name: str, launch: Launch, task_class: type[FunctionTask], measurements: int, where: Callable[[str], str], problems: list[str]
) -> None:
    """Add to `problems` if trials are to be compared while they train, and the function does not have what that needs.

    `name` is the sweep's.
    """
    scheduler, population = launch.early_stopping.scheduler, launch.search.algorithm == "pbt"
    comparing = ["early_stopping.scheduler"] * (scheduler != "none") + ["search.algorithm"] * population
    for key in comparing if not measurements else ():
        problems.append(
            f"{where(key)}: {key}: {'pbt' if key == 'search.algorithm' else scheduler} compares trials after equal parts of their "
            "measurements. Say how many one trial yields, as in measurements=30."
        )
    if population and not task_class.can_resume():
        problems.append(
            f"{where('search.algorithm')}: search.algorithm: pbt continues a trial from the state of another one, but {name} has no argument "
            "`resume`. Add it, and yield ddl.Progress with a state, or set search.algorithm to random or tpe."
        )


def _file(sweep: FunctionSweep, draft: SweepDraft, overridden: Set[str], problems: list[str]) -> SweepFile | None:
    """The keys of a sweep's YAML, which a function does not have. None if one of them is invalid."""
    metric = draft.file["metric"]
    if not metric["name"]:
        problems.append(
            f"metric: missing. Name a measurement that {sweep.name} yields, as in metric=val/accuracy, with metric.mode=min if smaller is better."
        )
    values = {
        "task": sweep.name,
        "title": sweep.title or _title(sweep),
        "metric": metric | {"mode": metric["mode"] or likely_mode(str(metric["name"]))},
        "samples": draft.file["samples"],
    }
    file: SweepFile | None = construct(SweepFile, values, lambda key: COMMAND_LINE if key in overridden else sweep.name, "", problems)
    return file


def _known(values: Any, names: Sequence[str], place: str, problems: list[str]) -> dict[str, Any]:
    """`values` of the function's hyperparameters; others, and values that a record cannot hold, become problems."""
    if not isinstance(values, Mapping):
        problems.append(f"{place}: must be a dictionary of hyperparameters, not {_short(values)}.")
        return {}
    values = {key: _plain(value) for key, value in values.items()}
    for key in values:
        if key not in names:
            problems.append(f"{place}: {key}: the function has no such parameter.{did_you_mean(str(key), names)}")
        elif not is_recordable(values[key]):
            problems.append(f"{place}: {key}: {_short(values[key])} cannot be recorded. Give numbers, texts, and lists of them.")
    return {key: value for key, value in values.items() if key in names}


def _plain(value: Any) -> Any:
    """The value with Python's numbers and lists in place of NumPy's and torch's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def _short(value: object) -> str:
    """A value as a message shows it."""
    return reprlib.repr(value)


def _title(sweep: FunctionSweep) -> str:
    """The first line of the function's docstring, or its name."""
    return (inspect.getdoc(sweep.function) or sweep.name).splitlines()[0].rstrip(".")


def _place(function: Callable[..., Any]) -> str:
    """File and line of the function."""
    code = inspect.unwrap(function).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"
