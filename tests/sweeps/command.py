"""The command as a user runs it, in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests" / "sweeps" / "plugin"


SCRIPT = (str(ROOT / "launch.py"),)
ANYWHERE = ("-c", "from ddl.launch import main; raise SystemExit(main())")
"""As an installed `ddl` starts: Ray tells a worker where a script lies, but not where this one is."""


def start(*arguments: str, cwd: Path, how: Sequence[str] = SCRIPT, **variables: str) -> subprocess.Popen:
    """In a session of its own, so that a signal to its group reaches all it started and not the tests."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(PLUGIN)])} | variables
    environment.pop("WANDB_API_KEY", None)
    return subprocess.Popen(
        [sys.executable, *how, *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def communicate(process: subprocess.Popen, seconds: float, exits: int = 0) -> tuple[str, str]:
    """Standard output and error of a process, once it has ended with the exit code `exits`."""
    output, errors = process.communicate(timeout=seconds)
    assert process.returncode == exits, output + errors
    return output, errors


def launch(*arguments: str, cwd: Path, exits: int = 0, **variables: str) -> subprocess.CompletedProcess:
    """Run the command to its end, which must have the exit code `exits`."""
    output, errors = communicate(start(*arguments, cwd=cwd, **variables), 240, exits)
    return subprocess.CompletedProcess(arguments, exits, output, errors)


def run_folder(output: str, cwd: Path) -> Path:
    """The folder of the run, from the last line on stdout."""
    last = output.strip().splitlines()[-1]
    assert last.startswith("report: "), output
    return (cwd / last.removeprefix("report: ")).parent


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"not within {seconds} s: {what}"
        time.sleep(0.1)
