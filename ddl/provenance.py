"""The code, package versions and machine of a run, for its record."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from ddl.gpus import machine_gpus
from ddl.telemetry.describe import cpu_name

MAX_DIFF = 1_000_000
"""Characters of uncommitted changes in the record, at most."""
_PACKAGES = ("ddl", "torch", "torchvision", "ray", "numpy", "gymnasium", "hydra-core", "wandb")


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def host() -> dict[str, Any]:
    """CPU, cores, memory (GiB), usable GPUs and operating system of this machine."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [gpu.name for gpu in machine_gpus().usable],
        "os": platform.platform(),
    }


def code() -> dict[str, str]:
    """The commit this package was imported from and its uncommitted changes; both empty outside a git checkout."""
    folder = Path(__file__).parent
    commit = _git(folder, "rev-parse", "HEAD").strip()
    if not commit or _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) == "":
        return {"commit": "", "diff": ""}
    diff = _git(folder, "diff", "HEAD", "--", "*.py", "*.yaml")
    if len(diff) > MAX_DIFF:
        diff = f"(a diff of {len(diff)} characters, too long to keep)"
    return {"commit": commit + (" (dirty)" if diff else ""), "diff": diff}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
