"""From a sweep's name and overrides to a typed sweep; every mistake in them is collected, none stops the search for others."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from ddl import yamlfile
from ddl.hints import did_you_mean
from ddl.overrides import apply_override, parse_overrides, select_configurations
from ddl.schema import Launch, Sweep, SweepFile, label
from ddl.tasks.loading import load_task_class
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


def config_names(kind: str, folder: Path = FOLDER) -> list[str]:
    """Names of the YAML files there are of a kind, `sweep` or `task`."""
    return sorted(path.stem for path in (folder / kind).glob("*.yaml"))


def compose_sweep(sweep: str, overrides: Sequence[str], scale: str, problems: list[str]) -> Sweep | None:
    """The sweep of this name, or in this YAML file, at `scale`, with Hydra overrides applied.

    What is wrong goes into `problems`; None where too little is left to look further.
    """
    path = _find(sweep, problems)
    if path is None:
        return None
    source = yamlfile.read_yaml(path, problems)
    launch_source = yamlfile.read_yaml(FOLDER / "launch.yaml", problems)
    if not source.values:
        return None
    launch_keys = [item.name for item in fields(Launch)]
    given = {str(key): value for key, value in source.values.items() if key not in launch_keys}
    # YAML reads the key 0.1 as a number, but a configuration's name is text.
    if isinstance(configurations := given.get("configurations"), dict):
        given["configurations"] = {label(key): value for key, value in configurations.items()}
    if isinstance(reference := given.get("reference"), dict) and isinstance(reference.get("values"), dict):
        given["reference"] = reference | {"values": {label(key): value for key, value in reference["values"].items()}}
    file = construct(SweepFile, given, source.where, "", problems, also=launch_keys)
    if file is None:
        # Go on without what is wrong, to find what else is.
        file = construct(SweepFile, _NO_SWEEP | _sound(SweepFile, given), source.where, "", [])
    if file is None:
        return None
    task_class, task_source = _task(file, source, problems)
    if task_class is None:
        return None
    hyperparameters = [item.name for item in fields(task_class) if item.name != "seed"]
    for key in map(str, task_source.values):
        if key != "class" and key not in hyperparameters:
            problems.append(f"{task_source.where(key)}: {key}: unknown key.{did_you_mean(key, hyperparameters)}")
    base = {key: value for key, value in task_source.values.items() if key in hyperparameters}
    where = {key: task_source.where(key) for key in hyperparameters}
    where |= {key: source.where(key) for key in ("space", "configurations", "samples")}

    def section(values: Mapping[str, Any], place: str) -> dict[str, Any]:
        """A section's `task.x: value` lines without the `task.`, the unknown ones reported."""
        found = {}
        for key, value in values.items():
            name = key.removeprefix("task.")
            if key.startswith("task.") and name in hyperparameters:
                found[name] = value
                where[f"{place}.{name}"] = source.where(f"{place}.{key}")
            else:
                known = [f"task.{name}" for name in hyperparameters]
                problems.append(f"{source.where(f'{place}.{key}')}: {key}: unknown key.{did_you_mean(key, known)}")
        return found

    scales = {name: section(values, f"scale.{name}") for name, values in file.scale.items()}
    for place, values in (("set", section(file.set, "set")), (f"scale.{scale}", scales.get(scale, {}))):
        base |= values
        where |= {name: where[f"{place}.{name}"] for name in values}
    space = section(file.space, "space")
    configurations = {name: section(values, f"configurations.{name}") for name, values in file.configurations.items()}

    launch_values = dict(launch_source.values)
    for key in launch_keys:
        if key in source.values:
            launch_values[key] = _merged(launch_values.get(key), source.values[key])
    forced: dict[str, Any] = {}
    axes, parsed = dict(space), parse_overrides(overrides, problems)
    for override in parsed:
        if override.key_or_group == "configurations" and not override.is_delete():
            configurations = select_configurations(override, configurations, axes, problems)
        else:
            apply_override(override, hyperparameters, launch_values, space, forced, problems)
    where |= dict.fromkeys(forced, "command line")
    where |= {f"space.{name}": "command line" for name, values in space.items() if values is not axes.get(name)}
    commanded = {override.key_or_group for override in parsed}

    def where_launch(key: str) -> str:
        if key in commanded:
            return "command line"
        return source.where(key) if key in source.lines else launch_source.where(key)

    launch = construct(Launch, launch_values, where_launch, "", problems) or construct(Launch, launch_source.values, where_launch, "", [])
    if launch is None:
        return None
    where["seed"] = where_launch("first_seed")
    return Sweep(path.stem, scale, file, launch, task_class, base, space, configurations, forced, where)


def construct(cls: type, values: Mapping[str, Any], where: Any, prefix: str, problems: list[str], also: Sequence[str] = ()) -> Any | None:
    """`cls(**values)`, or None with each mistake in `problems`. `where(key)` tells where a key was given; `also` are
    further keys that would have been right."""
    try:
        return cls(**values)
    except ValidationError as error:
        wrong: dict[str, tuple[list[str], Any]] = {}
        for item in error.errors():
            path = [str(part) for part in item["loc"] if part not in ("int", "float", "constrained-int", "constrained-float")]
            key = re.sub(r"\.(literal|function-.*)\[.*|\.\[key\]", "", ".".join(path))
            shown = f"{prefix}{key}" if key else prefix.rstrip(".") or cls.__name__
            place = where(key)
            match item["type"]:
                case "missing":
                    problems.append(f"{place}: {shown}: missing. Give it a value.")
                case "unexpected_keyword_argument":
                    problems.append(f"{place}: {shown}: unknown key.{did_you_mean(key, [*_keys(cls, path[:-1]), *also])}")
                case _:
                    said = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
                    wrong.setdefault(f"{place}: {shown}", ([], item["input"]))[0].append(said)
        for start, (complaints, value) in wrong.items():
            # A value that may be one thing or another has a complaint from each.
            ending = "" if complaints[-1].endswith(".") else f", not {reprlib.repr(value)}."
            problems.append(f"{start}: {', or '.join(complaints)}{ending}")
        return None


def _keys(cls: type, path: Sequence[str]) -> list[str]:
    """The dotted keys of the dataclass that stands at `path` in `cls`; none where something else does."""
    for part in path:
        kind = {item.name: item.type for item in fields(cls)}.get(part)
        cls = next((inner for inner in (kind, *get_args(kind)) if isinstance(inner, type) and is_dataclass(inner)), type(None))
        if cls is type(None):
            return []
    return [".".join([*path, item.name]) for item in fields(cls)]


_NO_SWEEP = {"title": "", "metric": {"name": "", "mode": "max"}, "scale": {}}


def _sound(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without those that `cls` does not take."""
    try:
        cls(**values)
    except ValidationError as error:
        wrong = {item["loc"][0] for item in error.errors()}
        return {key: value for key, value in values.items() if key not in wrong}
    return dict(values)


def _find(sweep: str, problems: list[str]) -> Path | None:
    if sweep.endswith((".yaml", ".yml")):
        path = Path(sweep)
        try:
            there = path.is_file()
        except (OSError, ValueError):  # a name too long, or not one at all
            there = False
        if not there:
            problems.append(f"--sweep {reprlib.repr(sweep)}: there is no such file.")
        elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", path.stem):
            problems.append(f"--sweep {sweep!r}: a sweep's file is named with letters, digits, _ and -, at most 64.")
        else:
            return path
        return None
    if sweep not in config_names("sweep"):
        shown = sweep if len(sweep) <= 80 else sweep[:80] + "..."
        problems.append(
            f"--sweep {shown!r}: unknown sweep.{did_you_mean(sweep, config_names('sweep'))} There are: {', '.join(config_names('sweep'))}. Or name a YAML file."
        )
        return None
    return FOLDER / "sweep" / f"{sweep}.yaml"


def _task(file: SweepFile, source: YamlFile, problems: list[str]) -> tuple[type[Task] | None, YamlFile]:
    """The task's class, and its YAML: ours, or one in a folder `task` in or beside the sweep's folder."""
    folders = [source.path.parent / "task", source.path.parent.parent / "task", FOLDER / "task"]
    known = sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.yaml")})
    if file.task not in known:
        problems.append(
            f"{source.where('task')}: task: {file.task!r} is unknown.{did_you_mean(file.task, known)} There are: {', '.join(known)}."
        )
        return None, source
    path = next(folder / f"{file.task}.yaml" for folder in folders if (folder / f"{file.task}.yaml").is_file())
    task_source = yamlfile.read_yaml(path, problems)
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
        return load_task_class(f"{module_name}.{class_name}"), task_source
    except ValueError as error:
        problems.append(f"{where}: class: {error}")
        return None, task_source


def _merged(default: Any, value: Any) -> Any:
    return default | value if isinstance(default, dict) and isinstance(value, dict) else value
