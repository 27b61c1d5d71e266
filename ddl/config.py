"""Composes a typed sweep from its YAML, its task's YAML, launch.yaml and the command line's overrides.

Mistakes are collected in a list of problems, one line each, so that all of them can be reported at once.
"""

import re
import reprlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args

from pydantic import ValidationError

from ddl.composed_sweep import Sweep
from ddl.hints import did_you_mean
from ddl.overrides import SweepDraft, apply_overrides
from ddl.schema import Launch, SweepFile, label
from ddl.sweep_file import find_sweep_file
from ddl.task_file import TaskFile, find_task_file
from ddl.yamlfile import FOLDER, YamlFile, read_yaml

SCALES = ("smoke", "sample", "paper")
COMMAND_LINE = "command line"


MAX_SHOWN = 20
"""Largest number of problems that a message shows: an axis may have a hundred thousand wrong values."""


class ConfigError(ValueError):
    """Everything that is wrong with the user's input; `problems` has a line each: where, what, and how to fix it.

    `outcome` says what was done about it.
    """

    def __init__(self, problems: Sequence[str], outcome: str = "Nothing was started."):
        more = [f"... and {len(problems) - MAX_SHOWN:,} more"] if len(problems) > MAX_SHOWN else []
        super().__init__("\n".join([*problems[:MAX_SHOWN], *more]))
        self.problems, self.outcome = list(problems), outcome


def compose_sweep(sweep: str, overrides: Sequence[str], scale: str, problems: list[str]) -> Sweep | None:
    """Compose the sweep of this name, or in this YAML file, at `scale`, with Hydra overrides applied.

    Problems are appended to `problems`; returns None if too little is left to look for more of them.
    """
    path = find_sweep_file(sweep, problems)
    if path is None:
        return None
    source = read_yaml(path, problems)
    launch_source = read_yaml(FOLDER / "launch.yaml", problems)
    file = _sweep_file(source, problems) if source.values else None
    if file is None:
        return None
    task = find_task_file(file, source, problems)
    if task is None:
        return None
    given = _Hyperparameters(task, source, problems)
    scales: dict[str, Any] = {name: given.section(values, f"scale.{name}") for name, values in file.scale.items()}
    assigned = given.section(file.set, "set")
    layers = {"set": assigned, **{f"scale.{name}": values for name, values in scales.items()}}
    given.assign(assigned, "set")
    given.assign(scales.get(scale, {}), f"scale.{scale}")
    axes = given.section(file.space, "space")
    named = {name: given.section(values, f"configurations.{name}") for name, values in file.configurations.items()}

    own = {"samples": file.samples, "metric": asdict(file.metric)}
    draft = SweepDraft(_launch_values(source, launch_source), own, dict(axes), named, {})
    overridden = apply_overrides(draft, overrides, given.names, problems)
    file = construct(SweepFile, vars(file) | draft.file, lambda key: COMMAND_LINE, "", problems) or file
    for place, values in layers.items():
        given.check_replaced(values, place, task, {*draft.space, *draft.forced}, problems)
    where = given.where | dict.fromkeys(draft.forced, COMMAND_LINE)
    where |= {f"space.{name}": COMMAND_LINE for name, values in draft.space.items() if values is not axes.get(name)}

    def where_launch(key: str) -> str:
        if key in overridden:
            return COMMAND_LINE
        return source.where(key) if key in source.lines else launch_source.where(key)

    _check_replaced_settings(source, launch_source, overridden, problems)
    launch = construct(Launch, draft.launch, where_launch, "", problems) or construct(Launch, launch_source.values, where_launch, "", [])
    if launch is None:
        return None
    where |= dict.fromkeys(overridden & {"samples", "metric.name"}, COMMAND_LINE)
    where |= {"seed": where_launch("first_seed"), "seeds": where_launch("seeds")}
    return Sweep(
        path.stem,
        scale if file.scale else "",
        file,
        launch,
        task.task_class,
        given.base,
        draft.space,
        draft.configurations,
        draft.forced,
        where,
        task.code_folder,
    )


class _Hyperparameters:
    """The values that a sweep's files give to hyperparameters, by name without `task.`, and the line of each.

    `base` maps each hyperparameter to the value every trial starts from; `where` maps a name, or `section.name`, to `file:line`.
    """

    def __init__(self, task: TaskFile, source: YamlFile, problems: list[str]):
        self.names = [item.name for item in fields(task.task_class) if item.name != "seed"]
        self.base = {key: value for key, value in task.values.items() if key in self.names}
        self.where = {key: task.where(key) for key in self.names}
        self.where |= {key: source.where(key) for key in ("space", "configurations", "samples", "metric.name", "reference.metric")}
        self._source, self._problems = source, problems
        for key in map(str, task.values):
            if key not in self.names:
                problems.append(f"{task.where(key)}: {key}: unknown key.{did_you_mean(key, self.names)}")

    def section(self, values: Mapping[str, Any], place: str) -> dict[str, Any]:
        """The `task.x: value` lines of the section at `place` in the sweep's file, without `task.`; unknown keys are reported."""
        known = [f"task.{name}" for name in self.names]
        found = {}
        for key, value in values.items():
            where = self._source.where(f"{place}.{key}")
            if key in known:
                name = key.removeprefix("task.")
                found[name] = value
                self.where[f"{place}.{name}"] = where
            else:
                self._problems.append(f"{where}: {key}: unknown key.{did_you_mean(key, known)}")
        return found

    def check_replaced(self, values: Mapping[str, Any], place: str, task: TaskFile, replaced: Set[str], problems: list[str]) -> None:
        """Check those of `values`, from the section at `place`, that no trial has: the others are checked with it.

        `replaced` are the hyperparameters that axes and the command line assign. What the task's file says is not checked: it may leave a
        value to the sweep, such as the path of a table.
        """
        for name, value in values.items():
            where = self.where[f"{place}.{name}"]
            if where == self.where[name] and name not in replaced:
                continue
            found: list[str] = []
            construct(task.task_class, {**self.base, name: value, "seed": 0}, lambda key, where=where: where, "task.", found)  # type: ignore[misc]
            # The mistakes of other values are found where those are assigned.
            problems += [line for line in found if re.match(rf"{re.escape(where)}: task\.{name}\b", line)]

    def assign(self, values: Mapping[str, Any], place: str) -> None:
        """Make `values`, from the section at `place`, what every trial starts from."""
        self.base |= values
        self.where |= {name: self.where[f"{place}.{name}"] for name in values}


def _sweep_file(source: YamlFile, problems: list[str]) -> SweepFile | None:
    """The sweep's own keys; if some are wrong, the others, so that the search for problems can continue."""
    launch_keys = [item.name for item in fields(Launch)]
    given = {str(key): value for key, value in source.values.items() if key not in launch_keys}
    # YAML reads the key 0.1 as a number, but a configuration's name is text.
    if isinstance(configurations := given.get("configurations"), dict):
        given["configurations"] = _named(configurations, "configurations", source, problems)
    if isinstance(reference := given.get("reference"), dict) and isinstance(reference.get("values"), dict):
        given["reference"] = reference | {"values": _named(reference["values"], "reference.values", source, problems)}
    file: SweepFile | None = construct(SweepFile, given, source.where, "", problems, also=launch_keys)
    return file or construct(SweepFile, _EMPTY_SWEEP | _valid_keys(SweepFile, given), source.where, "", [])


def _named(values: Mapping[Any, Any], place: str, source: YamlFile, problems: list[str]) -> dict[str, Any]:
    """`values` by the names that tables show. Keys of the section at `place` that have one name are reported."""
    keys: dict[str, Any] = {}
    for key in values:
        name = label(key)
        if name in keys:
            problems.append(f"{source.where(place)}: {place}: {keys[name]!r} and {key!r} have the same name, {name}. Rename one.")
        keys[name] = key
    return {name: values[key] for name, key in keys.items()}


_EMPTY_SWEEP = {"title": "", "metric": {"name": "", "mode": "max"}}


def _launch_values(source: YamlFile, launch_source: YamlFile) -> dict[str, Any]:
    """Values of launch.yaml, with those that the sweep's file changes; a section is changed key by key."""
    values = dict(launch_source.values)
    for key in (item.name for item in fields(Launch)):
        if key in source.values:
            default, value = values.get(key), source.values[key]
            values[key] = default | value if isinstance(default, dict) and isinstance(value, dict) else value
    return values


def _check_replaced_settings(source: YamlFile, launch_source: YamlFile, overridden: Set[str], problems: list[str]) -> None:
    """Check those of the sweep's file that the command line replaces: the others are checked with the launch settings."""
    found: list[str] = []
    construct(Launch, _launch_values(source, launch_source), source.where, "", found)
    places = tuple(f"{source.where(key)}: {key}{end}" for key in overridden if key in source.lines for end in ":.")
    problems += [line for line in found if line.startswith(places)]


_ALTERNATIVES = ("int", "float", "constrained-int", "constrained-float", "number", "range")
"""Parts of the place of a mistake that are no keys but name an alternative of a union type."""


def construct(
    cls: type, values: Mapping[str, Any], where: Callable[[str], str], prefix: str, problems: list[str], also: Sequence[str] = ()
) -> Any | None:
    """Return `cls(**values)`, or None with a line in `problems` for each invalid value.

    `where(key)` names the place that gave a key its value; `prefix` is put before keys in messages; `also` are keys that are
    valid elsewhere, for suggestions.
    """
    try:
        return cls(**values)
    except ValidationError as error:
        wrong: dict[str, tuple[list[str], Any]] = {}
        for item in error.errors():
            path = [str(part) for part in item["loc"] if part not in _ALTERNATIVES]
            key = re.sub(r"\.(literal|function-.*)\[.*|\.\[key\]", "", ".".join(path))
            start = f"{where(key)}: {f'{prefix}{key}' if key else prefix.rstrip('.') or cls.__name__}"
            match item["type"]:
                case "missing":
                    problems.append(f"{start}: missing. Give it a value.")
                case "unexpected_keyword_argument":
                    problems.append(f"{start}: unknown key.{did_you_mean(key, [*_keys(cls, path[:-1]), *also])}")
                case _:
                    complaint = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
                    wrong.setdefault(start, ([], item["input"]))[0].append(complaint)
        for start, (complaints, value) in wrong.items():
            # A value of a union type has one complaint per alternative.
            ending = "" if complaints[-1].endswith(".") else f", not {reprlib.repr(value)}."
            problems.append(f"{start}: {', or '.join(complaints)}{ending}")
        return None


def _keys(cls: type, path: Sequence[str]) -> list[str]:
    """The dotted keys of the dataclass at `path` in `cls`; none if there is no dataclass."""
    for part in path:
        kind = {item.name: item.type for item in fields(cls)}.get(part)
        cls = next((inner for inner in (kind, *get_args(kind)) if isinstance(inner, type) and is_dataclass(inner)), type(None))
        if cls is type(None):
            return []
    return [".".join([*path, item.name]) for item in fields(cls)]


def _valid_keys(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without those that `cls` refuses."""
    try:
        cls(**values)
    except ValidationError as error:
        wrong = {item["loc"][0] for item in error.errors()}
        return {key: value for key, value in values.items() if key not in wrong}
    return dict(values)
