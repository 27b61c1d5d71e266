"""The command as a user runs it, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests" / "sweeps" / "plugin"


def start(*arguments: str, cwd: Path, **variables: str) -> subprocess.Popen:
    """In a session of its own, so that a signal to its group reaches all it started and not the tests."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(PLUGIN)])} | variables
    environment.pop("WANDB_API_KEY", None)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def launch(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    process = start(*arguments, cwd=cwd, **variables)
    output, errors = process.communicate(timeout=240)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def run_folder(output: str, cwd: Path) -> Path:
    """The folder of the run, from the last line on stdout."""
    last = output.strip().splitlines()[-1]
    assert last.startswith("report: "), output
    return (cwd / last.removeprefix("report: ")).parent
