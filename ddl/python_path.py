"""The folders that this process's own processes import from."""

import os
import sys


def python_path() -> str:
    """A `PYTHONPATH` with which a process imports what this one does: ddl from the same checkout, and the user's modules."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)
