"""Finds the YAML file of a sweep."""

import re
import reprlib
from pathlib import Path

from ddl.hints import did_you_mean
from ddl.yamlfile import FOLDER, config_names


def find_sweep_file(sweep: str, problems: list[str]) -> Path | None:
    """The YAML file of a sweep: the one that is named, or ours of that name."""
    if sweep.endswith((".yaml", ".yml")):
        path = Path(sweep)
        try:
            exists = path.is_file()
        except (OSError, ValueError):  # the name is too long, or no file name at all
            exists = False
        if not exists:
            problems.append(f"--sweep {reprlib.repr(sweep)}: there is no such file.")
        elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", path.stem):
            problems.append(f"--sweep {sweep!r}: a sweep's file name has letters, digits, _ and - only, at most 64.")
        else:
            return path
        return None
    if sweep.endswith(".py"):
        problems.append(f"--sweep {sweep}: a Python file. Name a function in it, as in {sweep}:train.")
        return None
    names = config_names("sweep")
    if sweep not in names:
        shown = sweep if len(sweep) <= 80 else sweep[:80] + "..."
        problems.append(
            f"--sweep {shown!r}: unknown sweep.{did_you_mean(sweep, names)} Known sweeps: {', '.join(names)}. Or name a YAML file."
        )
        return None
    return FOLDER / "sweep" / f"{sweep}.yaml"
