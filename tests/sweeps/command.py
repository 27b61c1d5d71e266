"""The command as a user runs it, in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from ddl.launch import INTERRUPTED, main
from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests" / "sweeps" / "plugin"
STARTED: list[subprocess.Popen] = []
"""What `start` has started in this test."""

SCRIPT = (str(ROOT / "launch.py"),)
ANYWHERE = ("-c", "from ddl.launch import main; raise SystemExit(main())")
"""As an installed `ddl` starts: Ray tells a worker where a script lies, but not where this one is."""


def start(*arguments: str, cwd: Path, how: Sequence[str] = SCRIPT, **variables: str) -> subprocess.Popen:
    """In a session of its own, so that a signal to its group reaches all it started and not the tests."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(PLUGIN)])} | variables
    process = subprocess.Popen(
        [sys.executable, *how, *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    STARTED.append(process)
    return process


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """End what a failed test has left, which would slow down and disturb the tests after it."""
    yield
    while STARTED:
        with STARTED.pop() as process, suppress(ProcessLookupError):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def communicate(process: subprocess.Popen, exits: int = 0) -> tuple[str, str]:
    """Standard output and error of a process, once it has ended with the exit code `exits`."""
    output, errors = process.communicate(timeout=2 * HANG_S)
    assert process.returncode == exits, output + errors
    return output, errors


def launch(*arguments: str, cwd: Path, exits: int = 0, **variables: str) -> subprocess.CompletedProcess:
    """Run the command to its end, which must have the exit code `exits`."""
    output, errors = communicate(start(*arguments, cwd=cwd, **variables), exits)
    return subprocess.CompletedProcess(arguments, exits, output, errors)


Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs the command to its end in this process, without the seconds of its imports: for tests that are not about processes.

    The modules that it imports from the test's folder are forgotten after the test.
    """
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # a private Ray cluster changes it

    def command(*arguments: str, exits: int = 0) -> subprocess.CompletedProcess:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as ended:  # from argparse
            code = ended.code
        if code == INTERRUPTED:
            raise KeyboardInterrupt  # which was for the tests: a sweep takes it for its own
        output, errors = capsys.readouterr()
        assert code == exits, output + errors
        return subprocess.CompletedProcess(arguments, code, output, errors)

    yield command
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def run_folder(output: str, cwd: Path) -> Path:
    """The folder of the run, from the last line on stdout."""
    last = output.strip().splitlines()[-1]
    assert last.startswith("report: "), output
    return (cwd / last.removeprefix("report: ")).parent


def settled(folder: Path) -> pd.DataFrame:
    """A run's results without times, device metrics and sizes of stacks."""
    frame = pd.read_csv(folder / "results.csv")
    return frame[[name for name in frame if not name.startswith(("time/", "device/", "latency/", "elapsed", "stacked"))]]
