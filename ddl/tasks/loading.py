"""Imports a task's class by its dotted path, as a task's YAML and a run's ledger name it."""

import importlib
import inspect

from ddl.tasks.task import Task


def load_task_class(path: str) -> type[Task]:
    """Return the class at a dotted `path` (`ddl.tasks.classification.Classification`).

    Raises ValueError if the module cannot be imported, has no such class, or if that class is not a concrete `Task`.
    """
    module_name, _, class_name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:
        raise ValueError(f"{path} cannot be imported ({type(error).__name__}: {error}).") from error
    if not (inspect.isclass(found) and issubclass(found, Task)) or inspect.isabstract(found):
        raise ValueError(f"{path} is not a Task that can be run.")
    return found


def task_class_path(cls: type[Task]) -> str:
    """Return the dotted path that `load_task_class` finds `cls` at."""
    return f"{cls.__module__}.{cls.__qualname__}"
