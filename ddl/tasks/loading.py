"""Imports a task's class by its dotted path, as a task's YAML and a run's ledger name it."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ddl.hints import did_you_mean
from ddl.ownership import is_own
from ddl.tasks.function import FunctionTask, function_task
from ddl.tasks.task import Task
from ddl.tasks.user_code import changed_sources, hash_sources, import_module

BUILT_IN = "ddl.tasks."
"""Modules that may be imported for the run of anyone."""


def load_task_class(path: str, folder: str = "", measurements: int = 0) -> type[Task]:
    """Return the class at a dotted `path` (`ddl.tasks.classification.Classification`), or make one of the function there.

    The module is imported, from `folder` if that is given, so the path must be the user's own; `RecordedTasks` is for the path in a
    ledger. `measurements` as in `function_task`. Raises ValueError if the module cannot be imported, has neither such a class nor such a
    function, or if that class is not a concrete `Task`.
    """
    module_name, _, name = path.rpartition(".")
    module = import_module(module_name, folder)
    if not hasattr(module, name):
        raise ValueError(f"{module_name} has no {name}.{did_you_mean(name, vars(module))}")
    found = getattr(module, name)
    if inspect.isfunction(found) and not module_name.startswith("ddl."):  # a run from elsewhere may name what is in ddl
        return function_task(found, module_name, measurements)
    if not (inspect.isclass(found) and issubclass(found, Task)) or inspect.isabstract(found) or found is FunctionTask:
        raise ValueError(f"{path} is neither a Task that can be run nor a function of yours.")
    return found


def task_class_path(cls: type[Task]) -> str:
    """Return the dotted path that `load_task_class` finds `cls` at."""
    return f"{cls.__module__}.{cls.__qualname__}"


def code_entries(module: str, folder: str, function: Callable[..., Any] | None, measurements: int | None) -> dict[str, Any]:
    """The entries of a run about the code of its task, if that is the user's: where it is imported from, and hashes of its source.

    `measurements` as in `function_task`; None if the task has no such number.
    """
    if f"{module}.".startswith(BUILT_IN):
        return {}
    entries = {"code_folder": folder, "code": hash_sources(module, folder, function)}
    return entries if measurements is None else {**entries, "measurements": measurements}


class Untrusted(ValueError):
    """A run that comes from elsewhere asks for code outside ddl, or for a file outside its folder."""


class RecordedTasks:
    """Builds the tasks of a run from its ledger, which may come from someone else.

    A run of the user's own (`ownership`), and any run with `trust`, may import its plugin and read the files that its hyperparameters
    name. Other runs have only the tasks of ddl, and no files. `changed` are the source files of the user's that have changed since the
    run began.
    """

    def __init__(self, record: Mapping[str, Any], place: Path, trust: bool, function: Callable[..., Any] | None = None):
        """`record` is the run's, of the ledger `place`. `function` is the one that the run trains, if it has no file.

        Raises Untrusted, and ValueError if there is no such task.
        """
        own = is_own(record)
        trusted = trust or own
        path = record["task_class"]
        module, _, name = path.rpartition(".")
        if not (trusted or path.startswith(BUILT_IN)):
            raise Untrusted(
                f"{place}: its task {path!r} is code outside ddl, and this run was not begun by you. Add --trust to import it if you trust the run."
            )
        self._place, self._trust = place, trust
        self._files = record.get("files", []) if own else []
        # A run from elsewhere may name any folder: neither is it imported from, nor are files in it read.
        folder = (record.get("code_folder") or "") if trusted else ""
        sources = (record.get("code") or {}) if trusted else {}
        measurements = record.get("measurements") or 0
        if function is not None:
            self.task_class: type[Task] = function_task(function, module, measurements)
        elif path.startswith("__main__."):
            raise ValueError(
                f"{place}: its function {name} was defined in a notebook, in a class or in another function, so it cannot be imported. Resume "
                f"the run there: ddl.resume({str(place.parent)!r}, function=...)."
            )
        else:
            self.task_class = load_task_class(path, folder, measurements)
        self.changed = changed_sources(sources, folder, function)

    def check_code(self, run: str, advice: str) -> None:
        """Raise ValueError, with `advice`, if the source of the task has changed since `run` began."""
        if self.changed:
            raise ValueError(
                f"{run}: the code has changed since the run began: {', '.join(self.changed)}. {advice} or add --allow-changed-code."
            )

    def build(self, hyperparameters: Mapping[str, Any]) -> Task:
        """A task. Raises ValueError if the class refuses the hyperparameters, and Untrusted if they name a file."""
        task = self.task_class(**hyperparameters)
        self.check_files(task)
        return task

    def check_files(self, task: Task) -> None:
        """Raise Untrusted if the task reads a file that a run from elsewhere may not read."""
        for name in task.files():
            if not self._trust and name not in self._files:
                raise Untrusted(
                    f"{self._place}: a hyperparameter names the file {name!r}, and this run was not begun by you. Add --trust to read it if you trust the run."
                )
