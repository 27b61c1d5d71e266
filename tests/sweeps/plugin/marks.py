"""What the task in simulated_gpus.py leaves behind."""

import json
from contextlib import suppress
from pathlib import Path


def read_marks(folder: str | Path) -> list[dict]:
    """The marks of all processes so far."""
    marks = []
    for path in Path(folder).glob("*.json"):
        with suppress(FileNotFoundError):
            marks.append(json.loads(path.read_text()))
    return marks
