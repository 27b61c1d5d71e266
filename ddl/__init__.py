"""ddl: compare training configurations, with a report people can trust."""

from typing import Any

__all__ = ["Run", "resume", "run_sweep"]


def __getattr__(name: str) -> Any:
    # Importing torch and Ray takes seconds; a worker that needs one module should not pay for all.
    if name in __all__:
        from ddl import run

        return getattr(run, name)
    raise AttributeError(f"module 'ddl' has no attribute {name!r}")
