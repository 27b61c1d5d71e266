"""Trains every configuration of a sweep in parallel and compares them in one report."""

import importlib
from typing import Any

_HOMES = {
    "Interrupted": "ddl.run_training",
    "Progress": "ddl.progress",
    "Run": "ddl.run_results",
    "SupervisedTask": "ddl.tasks.supervised_task",
    "Task": "ddl.tasks.task",
    "confirm": "ddl.confirmation",
    "resume": "ddl.run",
    "run_sweep": "ddl.run",
    "sweep": "ddl.run",
    "task": "ddl.tasks.hyperparameters",
}
"""Modules of the names that `ddl` has."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    # Importing torch and Ray takes seconds, which a worker that needs one module should not pay.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ddl' has no attribute {name!r}")
