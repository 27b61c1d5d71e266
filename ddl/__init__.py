"""Trains every configuration of a sweep in parallel and compares them in one report."""

from typing import Any

__all__ = ["Run", "resume", "run_sweep"]


def __getattr__(name: str) -> Any:
    # Importing torch and Ray takes seconds, which a worker that needs one module should not pay.
    if name in __all__:
        from ddl import run

        return getattr(run, name)
    raise AttributeError(f"module 'ddl' has no attribute {name!r}")
