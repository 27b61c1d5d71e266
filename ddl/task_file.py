"""A task's YAML: found by name, with the files that it extends, and its class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddl.hints import did_you_mean
from ddl.schema import SweepFile
from ddl.tasks.loading import load_task_class
from ddl.tasks.task import Task
from ddl.tasks.user_code import folder_with, is_reference, locate
from ddl.yamlfile import FOLDER, YamlFile, read_yaml


@dataclass(frozen=True)
class TaskFile:
    """A task's class and the folder it is imported from, and its YAML, followed by those that it extends."""

    task_class: type[Task]
    code_folder: str
    layers: Sequence[YamlFile]

    @property
    def values(self) -> dict[str, Any]:
        """The hyperparameters' values. A file's own replace those of the files that it extends."""
        return {key: value for layer in reversed(self.layers) for key, value in layer.values.items() if key not in ("class", "extends")}

    def where(self, key: str) -> str:
        """`file:line` of a hyperparameter's value."""
        return next((layer for layer in self.layers if key in layer.lines), self.layers[0]).where(key)


def find_task_file(file: SweepFile, source: YamlFile, problems: list[str]) -> TaskFile | None:
    """The task of a sweep whose YAML is `source`: from `task/` in or next to the folder of that file, or ours.

    None, with a line in `problems`, if there is none or its class cannot be imported.
    """
    if is_reference(file.task):
        return _own_task(file.task, source, problems)
    layers = _task_layers(file.task, source, problems)
    if not layers:
        return None
    named = next((layer for layer in layers if "class" in layer.values), layers[0])
    path = str(named.values.get("class", ""))
    module = path.rpartition(".")[0]
    where = f"{named.where('class')}: class:"
    if not (module.startswith("ddl.tasks.") or module in file.plugins):
        problems.append(
            f"{where} must name a Task in ddl.tasks, or in a module that the sweep lists under `plugins`, not {module or 'nothing'}."
        )
        return None
    folder = "" if module.startswith("ddl.") else folder_with(module, [source.path.parent, source.path.parent.parent, Path()])
    try:
        return TaskFile(load_task_class(path, folder), folder, layers)
    except ValueError as error:
        problems.append(f"{where} {error}")
        return None


def _own_task(reference: str, source: YamlFile, problems: list[str]) -> TaskFile | None:
    """The task or function that a sweep names by its file or module; it has no YAML of its own."""
    try:
        path, folder = locate(reference, [source.path.parent, Path()])
        return TaskFile(load_task_class(path, folder), folder, [YamlFile(source.path, {}, {})])
    except ValueError as error:
        problems.append(f"{source.where('task')}: task: {reference}: {error}")
        return None


def _task_layers(name: str, source: YamlFile, problems: list[str]) -> list[YamlFile]:
    """The YAML of the task, and those that it extends, one after the other. A file may extend ours of the same name."""
    folders = [source.path.parent / "task", source.path.parent.parent / "task", FOLDER / "task"]
    known = sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.yaml")})
    layers: list[YamlFile] = []
    where = f"{source.where('task')}: task:"
    while True:
        if name not in known:
            problems.append(f"{where} {name!r} is unknown.{did_you_mean(name, known)} Known tasks: {', '.join(known)}.")
            return []
        paths = [path for folder in folders if (path := folder / f"{name}.yaml").is_file()]
        left = [path for path in paths if path not in [layer.path for layer in layers]]
        if not left:
            problems.append(f"{where} {name!r} extends itself.")
            return []
        layers.append(read_yaml(left[0], problems))
        if not layers[-1].values:
            return []
        if "extends" not in layers[-1].values:
            return layers
        name = str(layers[-1].values["extends"])
        where = f"{layers[-1].where('extends')}: extends:"
