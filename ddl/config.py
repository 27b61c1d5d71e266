"""From a sweep's name and overrides to a typed sweep; every mistake in them is collected, none stops the search for others."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from pydantic import ValidationError

from ddl import yamlfile
from ddl.schema import Launch, Sweep, SweepFile
from ddl.tasks.task import Task
from ddl.yamlfile import YamlFile

SCALES = ("smoke", "sample", "paper")
_HERE = Path(__file__).parent
FOLDER = _HERE / "tune_configs" if (_HERE / "tune_configs").is_dir() else _HERE.parent / "tune_configs"
"""Inside the package where it is installed, beside it in a checkout."""


class ConfigError(ValueError):
    """Everything wrong with what the user asked for, a line each: where, what, how to mend."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def names(kind: str, folder: Path = FOLDER) -> list[str]:
    """Names of the YAML files there are of a kind, `sweep` or `task`."""
    return sorted(path.stem for path in (folder / kind).glob("*.yaml"))


def compose(sweep: str, overrides: Sequence[str], scale: str, problems: list[str]) -> Sweep | None:
    """The sweep of this name, or in this YAML file, at `scale`, with Hydra overrides applied.

    What is wrong goes into `problems`; None where too little is left to look further.
    """
    path = _find(sweep, problems)
    if path is None:
        return None
    source = yamlfile.read(path, problems)
    launch_source = yamlfile.read(FOLDER / "launch.yaml", problems)
    if not source.values:
        return None
    launch_keys = [item.name for item in fields(Launch)]
    given = {key: value for key, value in source.values.items() if key not in launch_keys}
    if isinstance(reference := given.get("reference"), dict) and isinstance(reference.get("values"), dict):
        # YAML reads the key 0.1 as a number, but a configuration's name is text.
        given["reference"] = reference | {"values": {label(key): value for key, value in reference["values"].items()}}
    file = build(SweepFile, given, lambda key: source.where(key), "", problems, also=launch_keys)
    if file is None:
        return None
    task_class, task_source = _task(file, source, problems)
    if task_class is None:
        return None
    hyperparameters = [item.name for item in fields(task_class) if item.name != "seed"]
    base = {key: value for key, value in task_source.values.items() if key != "class"}
    where = {key: task_source.where(key) for key in base}
    for key in base.keys() - set(hyperparameters):
        problems.append(f"{task_source.where(key)}: {key}: unknown key.{_meant(key, hyperparameters)}")
    base = {key: value for key, value in base.items() if key in hyperparameters}

    def section(values: Mapping[str, Any], place: str) -> dict[str, Any]:
        """A section's `task.x: value` lines without the `task.`, the unknown ones reported."""
        found = {}
        for key, value in values.items():
            name = key.removeprefix("task.")
            if key.startswith("task.") and name in hyperparameters:
                found[name] = value
                where[name] = source.where(f"{place}.{key}")
            else:
                known = [f"task.{name}" for name in hyperparameters]
                problems.append(f"{source.where(f'{place}.{key}')}: {key}: unknown key.{_meant(key, known)}")
        return found

    base |= section(file.set, "set") | section(file.scale.get(scale, {}), f"scale.{scale}")
    for other in set(SCALES) & file.scale.keys() - {scale}:
        section(file.scale[other], f"scale.{other}")  # type: ignore[index]
    space = section(file.space, "space")
    configurations = {name: section(values, f"configurations.{name}") for name, values in file.configurations.items()}

    launch_values = dict(launch_source.values)
    for key in launch_keys:
        if key in source.values:
            launch_values[key] = _merged(launch_values[key], source.values[key])
    forced: dict[str, Any] = {}
    for override in _parse(overrides, problems):
        _apply(override, hyperparameters, launch_values, space, forced, problems)
    where |= dict.fromkeys(forced, "command line")
    launch = build(
        Launch, launch_values, lambda key: source.where(key) if key in source.lines else launch_source.where(key), "", problems
    )
    if launch is None:
        return None
    return Sweep(path.stem, scale, file, launch, task_class, base, space, configurations, forced, where)


def build(
    cls: type, values: Mapping[str, Any], where: Any, prefix: str, problems: list[str], also: Sequence[str] = ()
) -> Any | None:
    """`cls(**values)`, or None with each mistake in `problems`. `where(key)` tells where a key was given; `also` are
    further keys that would have been right."""
    try:
        return cls(**values)
    except ValidationError as error:
        for item in error.errors():
            path = [str(part) for part in item["loc"] if part not in ("int", "float", "constrained-int", "constrained-float")]
            key = re.sub(r"\.(literal|function-.*)\[.*", "", ".".join(path))
            shown = f"{prefix}{key}" if key else prefix.rstrip(".") or cls.__name__
            place = where(key)
            match item["type"]:
                case "missing":
                    problems.append(f"{place}: {shown}: missing. Give it a value.")
                case "unexpected_keyword_argument":
                    known = [name.name for name in fields(cls)] + list(also)
                    problems.append(f"{place}: {shown}: unknown key.{_meant(key, known)}")
                case _:
                    said = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
                    ending = "" if said.endswith(".") else f", not {item['input']!r}."
                    problems.append(f"{place}: {shown}: {said}{ending}")
        return None


def label(value: object) -> str:
    """A value as tables show it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _find(sweep: str, problems: list[str]) -> Path | None:
    if sweep.endswith((".yaml", ".yml")):
        path = Path(sweep)
        if "\0" in sweep or not path.is_file():
            problems.append(f"--sweep {sweep!r}: there is no such file.")
        elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", path.stem):
            problems.append(f"--sweep {sweep!r}: a sweep's file is named with letters, digits, _ and -, at most 64.")
        else:
            return path
        return None
    if sweep not in names("sweep"):
        shown = sweep if len(sweep) <= 80 else sweep[:80] + "..."
        problems.append(
            f"--sweep {shown!r}: unknown sweep.{_meant(sweep, names('sweep'))} There are: {', '.join(names('sweep'))}. Or name a YAML file."
        )
        return None
    return FOLDER / "sweep" / f"{sweep}.yaml"


def _task(file: SweepFile, source: YamlFile, problems: list[str]) -> tuple[type[Task] | None, YamlFile]:
    """The task's class, and its YAML: ours, or one in a folder `task` in or beside the sweep's folder."""
    folders = [source.path.parent / "task", source.path.parent.parent / "task", FOLDER / "task"]
    known = sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.yaml")})
    if file.task not in known:
        problems.append(f"{source.where('task')}: task: {file.task!r} is unknown.{_meant(file.task, known)} There are: {', '.join(known)}.")
        return None, source
    path = next(folder / f"{file.task}.yaml" for folder in folders if (folder / f"{file.task}.yaml").is_file())
    task_source = yamlfile.read(path, problems)
    if not task_source.values:
        return None, task_source
    module_name, _, class_name = str(task_source.values.get("class", "")).rpartition(".")
    where = task_source.where("class")
    if not (module_name.startswith("ddl.tasks.") or module_name in file.plugins):
        problems.append(
            f"{where}: class: must name a Task in ddl.tasks, or in a module that the sweep lists under `plugins`, not {module_name or 'nothing'}."
        )
        return None, task_source
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        problems.append(f"{where}: class: {module_name}.{class_name} cannot be imported ({error}).")
        return None, task_source
    if not (inspect.isclass(cls) and issubclass(cls, Task)) or inspect.isabstract(cls):
        problems.append(f"{where}: class: {module_name}.{class_name} is not a Task that can be run.")
        return None, task_source
    return cls, task_source


def _parse(overrides: Sequence[str], problems: list[str]) -> list[Override]:
    parsed = []
    for text in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except OverrideParseException as error:
            problems.append(f"command line: {text!r}: not an override ({str(error).splitlines()[0]}). Write KEY=VALUE, as in task.lr=0.01.")
    return parsed


def _apply(
    override: Override,
    hyperparameters: Sequence[str],
    launch: dict[str, Any],
    space: dict[str, Any],
    forced: dict[str, Any],
    problems: list[str],
) -> None:
    """Put one override where it belongs: an axis, a hyperparameter of every trial, or a launch setting."""
    key = override.key_or_group
    known = [f"task.{name}" for name in hyperparameters]
    known += [f"{name}.{inner}" if isinstance(value, dict) else name for name, value in launch.items() for inner in (value if isinstance(value, dict) else [""])]
    if override.is_delete() or key not in known:
        hint = " Seeds are counted from first_seed." if key == "task.seed" else _meant(key, known)
        problems.append(f"command line: {key}: unknown key.{hint}")
    elif override.is_sweep_override():
        if not key.startswith("task.") or not override.is_choice_sweep():
            problems.append(f"command line: {key}: takes one value. Several, as in task.lr=0.1,0.01, make an axis of a hyperparameter only.")
        else:
            space[key.removeprefix("task.")] = list(override.sweep_iterator())
    elif key.startswith("task."):
        name = key.removeprefix("task.")
        if name in space:
            space[name] = [override.value()]
        else:
            forced[name] = override.value()
    else:
        outer, _, inner = key.partition(".")
        launch[outer] = launch[outer] | {inner: override.value()} if inner else override.value()


def _merged(default: Any, value: Any) -> Any:
    return default | value if isinstance(default, dict) and isinstance(value, dict) else value


def _meant(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), 1)
    return f" Did you mean {near[0]}?" if near else ""
