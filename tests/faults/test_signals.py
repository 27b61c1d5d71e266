"""Sweeps in processes of their own, of which some are killed, or which get signals."""

import os
import pty
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import closing, suppress
from fcntl import ioctl
from pathlib import Path

import psutil
import pytest

from ddl import checkpoints, ray_private
from ddl.ledger_reader import LedgerReader
from tests.codebase import ROOT
from tests.sweeps.command import INTERRUPTED, Command, communicate, nothing_left, start  # noqa: F401  the fixture `nothing_left`
from tests.sweeps.command import command as command  # a fixture
from tests.waiting import HANG_S, wait_until

SWEEP = ("--sweep", "train.py:train", "lr=0.1,0.2", "seeds=1", "metric=val/loss", "wandb.mode=disabled", "resources.cpus=1")
WAITS = """
import time
from pathlib import Path
def train(lr, resume=None):
    step = resume[0] if resume else 0
    while step < 5 or (lr > 0.15 and not Path("{go}").exists()):
        time.sleep(0.05)
        step += 1
        yield {{"val/loss": lr}}
"""
"""A function of which the trial lr=0.1 ends, and the other one does not until there is a file."""


@pytest.fixture
def go(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(WAITS.format(go=tmp_path / "go"), encoding="utf-8")
    return tmp_path / "go"


def statuses(folder: Path) -> list[tuple[str, int]]:
    """Status and number of attempts of each trial, in the order of the sweep."""
    return [(trial.status, trial.attempts) for trial in LedgerReader(folder).trials()]


def run_in(folder: Path, terminal: int | None = None) -> Path:
    """The only run in `folder`, once one of its trials has finished and the other one runs. Reads what is printed to a terminal."""

    def waits() -> bool:
        if terminal is not None:
            with suppress(BlockingIOError):
                while os.read(terminal, 100_000):
                    pass
        ledgers = list(folder.glob("runs/train/*/ledger.sqlite"))
        return bool(ledgers) and [status for status, _ in statuses(ledgers[0].parent)] == ["finished", "running"]

    wait_until(waits, "one trial has finished, the other one runs")
    return next(folder.glob("runs/train/*"))


def check_stopped_and_resume(run: Path, started: list[psutil.Process], go: Path, command: Command) -> None:
    """The sweep has stopped in order, has left a report and no process, and is finished by a resume."""
    assert statuses(run) == [("finished", 1), ("planned", 1)]
    assert (run / "report.html").is_file()
    wait_until(lambda: not any(process.is_running() for process in started), "all processes of the sweep have ended")

    go.touch()
    command("--resume", str(run), "--executor", "inline")
    assert statuses(run) == [("finished", 1), ("finished", 2)]


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_sweep_whose_ray_dies_says_so_and_is_resumed(name: str, go: Path, command: Command, tmp_path: Path) -> None:
    sweep = start(*SWEEP, cwd=tmp_path)
    run = run_in(tmp_path)
    started = psutil.Process(sweep.pid).children(recursive=True)
    (killed,) = [process for process in started if process.name() == name]
    killed.kill()
    _, errors = communicate(sweep, exits=1)
    line = f"Ray's {name} died (SIGKILL), and all running trials with it. To continue: "
    assert errors.startswith(line)
    assert errors.count("\n") == 1
    assert errors.endswith(f" --resume {run.relative_to(tmp_path)}\n")
    check_stopped_and_resume(run, started, go, command)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[psutil.Process]]]:
    """The address of a cluster of one node, and its processes."""
    folder = tempfile.mkdtemp(prefix="h", dir="/tmp")  # short: Ray's sockets have long names
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ab" * 32)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ("--node-ip-address=127.0.0.1", f"--temp-dir={folder}/r", "--num-cpus=2", "--object-store-memory=80000000")
    command = [Path(sys.executable).with_name("ray"), "start", "--head", f"--port={address.partition(':')[2]}", *options]
    environment = os.environ | {"DDL_TEST_HEAD": folder, "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        subprocess.run([*command, "--include-dashboard=false"], env=environment, check=True, capture_output=True, timeout=HANG_S)
        yield address, started_with("DDL_TEST_HEAD", folder)
    finally:
        for process in started_with("DDL_TEST_HEAD", folder):
            process.kill()
        shutil.rmtree(folder)


def started_with(name: str, value: str) -> list[psutil.Process]:
    """The processes with this environment variable."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(name) == value:
                found.append(process)
    return found


@pytest.mark.parametrize("name", ["gcs_server", pytest.param("raylet", marks=pytest.mark.campaign)])
def test_a_sweep_on_a_cluster_whose_head_dies_says_so_and_is_resumed(
    name: str, head: tuple[str, list[psutil.Process]], go: Path, command: Command, tmp_path: Path
) -> None:
    address, processes = head
    sweep = start(*SWEEP, "--address", address, cwd=tmp_path)
    run = run_in(tmp_path)
    (killed,) = [process for process in processes if process.name() == name]
    killed.kill()
    _, errors = communicate(sweep, exits=1)
    line = rf"Ray's {name} on [\d.]+ does not answer any more, and all running trials with it\. To continue: .* --resume (.*)\n"
    assert re.fullmatch(line, errors)[1] == str(run.relative_to(tmp_path))
    check_stopped_and_resume(run, [], go, command)


ASKED = """
import sys
import time
from pathlib import Path

import psutil
from ddl.sweeps.executor_died import ExecutorDied
from ddl.sweeps.ray_schedulers import InOrder
from ddl.sweeps.ray_tune import RayExecutor

executor = RayExecutor(None, 0, Path(sys.argv[1]), InOrder(), {"ddl"}, None, 60.0)
try:
    with executor:
        (gcs,) = [process for process in psutil.Process().children(recursive=True) if process.name() == "gcs_server"]
        gcs.kill()
        while gcs.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)
        executor.capacity()
except ExecutorDied as error:
    print(error)
"""


def test_a_ray_that_died_before_the_plan_is_named(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ASKED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "Ray's gcs_server died (SIGKILL), and all running trials with it\n", done.stderr


PROBED = """
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Number, Task

@dataclass(frozen=True, config=STRICT)
class Probed(Task):
    lr: Number

    def uses_ray(self) -> bool:
        return True

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        while not Path("{go}").exists():
            Path("{go}.probed").touch()
            time.sleep(0.05)
        yield Progress(step=1, total_steps=1, metrics={{"val/loss": self.lr}}, state=lambda: {{"step": 1}})
"""
"""A task that is probed under Ray, and does nothing until there is a file."""


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_ray_that_dies_during_the_probes_is_named(name: str, command: Command, tmp_path: Path) -> None:
    go, module = tmp_path / "go", f"probed_by_{name}"  # other tests of this process have imported modules too
    (tmp_path / f"{module}.py").write_text(PROBED.format(go=go), encoding="utf-8")
    (tmp_path / "probed.yaml").write_text(
        f"task: {module}.py:Probed\ntitle: Probed\nmetric: {{name: val/loss, mode: min}}\nspace: {{task.lr: [0.1, 0.2]}}\nseeds: 1\n"
    )
    sweep = start("--sweep", "probed.yaml", "wandb.mode=disabled", "resources.cpus=1", cwd=tmp_path)
    wait_until((tmp_path / "go.probed").exists, "the probes run")
    started = psutil.Process(sweep.pid).children(recursive=True)
    (killed,) = [process for process in started if process.name() == name]
    killed.kill()
    _, errors = communicate(sweep, exits=1)
    (run,) = tmp_path.glob("runs/probed/*")
    assert errors.startswith(f"Ray's {name} died (SIGKILL), and all running trials with it. To continue: ")
    assert errors.endswith(f" --resume {run.relative_to(tmp_path)}\n")
    assert errors.count("\n") == 1
    assert statuses(run) == [("planned", 0), ("planned", 0)]
    wait_until(lambda: not any(process.is_running() for process in started), "all processes of the sweep have ended")
    go.touch()
    command("--resume", str(run), "--executor", "inline")
    assert statuses(run) == [("finished", 1), ("finished", 1)]


def test_a_ray_that_does_not_start_is_named(go: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_raylet(*arguments: object, **options: object) -> None:
        raise Exception("The current node timed out during startup.")  # of this class

    temporary = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short: Ray's sockets have long names
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with monkeypatch.context() as patched:
        patched.setattr("tempfile.tempdir", str(temporary))
        patched.setattr(ray_private.Node, "start_raylet", start_raylet)
        errors = command(*SWEEP, exits=1).stderr
    temporary.rmdir()  # which is empty
    left = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert [process.name() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    assert errors.startswith("Ray did not start within 30 s, perhaps because this machine is too busy. To continue: ")
    (run,) = tmp_path.glob("runs/train/*")
    go.touch()
    command("--resume", str(run), "--executor", "inline")
    assert statuses(run) == [("finished", 1), ("finished", 1)]


def start_in_terminal(*arguments: str, cwd: Path, ignoring: bool = False) -> tuple[subprocess.Popen, int]:
    """The command in a session whose controlling terminal is a new one, and the other end of the terminal. `ignoring`: as by `nohup`."""
    ours, terminal = pty.openpty()

    def lead() -> None:
        os.setsid()
        ioctl(0, termios.TIOCSCTTY, 0)
        if ignoring:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    command = [sys.executable, str(ROOT / "launch.py"), *arguments]
    process = subprocess.Popen(command, cwd=cwd, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=lead)
    os.close(terminal)
    os.set_blocking(ours, False)
    return process, ours


def test_a_sweep_whose_terminal_closes_stops_in_order_and_is_resumed(go: Path, command: Command, tmp_path: Path) -> None:
    sweep, ours = start_in_terminal(*SWEEP, cwd=tmp_path)
    run = run_in(tmp_path, ours)
    started = psutil.Process(sweep.pid).children(recursive=True)
    os.close(ours)
    assert sweep.wait() == INTERRUPTED
    check_stopped_and_resume(run, started, go, command)


def test_a_sweep_under_nohup_outlives_its_terminal(go: Path, tmp_path: Path) -> None:
    sweep, ours = start_in_terminal(*SWEEP, "--executor", "inline", cwd=tmp_path, ignoring=True)
    run = run_in(tmp_path, ours)
    os.close(ours)
    go.touch()
    assert sweep.wait() == 0
    assert statuses(run) == [("finished", 1)] * 2


SLOW_REPORT = """
import time
from ddl.reports import results
written = results.write_results
def write_results(*arguments):
    if Path("slow").exists():
        Path("reporting").touch()
        time.sleep(3600)
    written(*arguments)
results.write_results = write_results
"""


IGNORED = """
import os, signal, time, weakref
class Thing:
    pass
def interrupt(reference):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # here Python calls the signal's handler
        pass
def train(lr):
    thing = Thing()
    reference = weakref.ref(thing, interrupt)
    del thing
    for _ in range(200):
        time.sleep(0.05)
        yield {"val/loss": lr}
"""
"""A function that gets Ctrl-C while Python ignores what is raised."""


def test_a_signal_in_a_callback_of_a_weak_reference_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(IGNORED)
    sweep = start("--sweep", "train.py:train", "lr=0.1", "metric=val/loss", "wandb.mode=disabled", "--executor", "inline", cwd=tmp_path)
    _, errors = communicate(sweep, exits=INTERRUPTED)
    assert errors.startswith("interrupted; resume with: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_leaves_out_the_last_report(number: signal.Signals, go: Path, tmp_path: Path) -> None:
    train = tmp_path / "train.py"
    train.write_text(train.read_text() + SLOW_REPORT)
    sweep = start(*SWEEP, "--executor", "inline", cwd=tmp_path)
    run = run_in(tmp_path)
    (tmp_path / "slow").touch()
    sweep.send_signal(number)
    wait_until((tmp_path / "reporting").exists, "the report is being written")
    sweep.send_signal(signal.SIGINT)
    _, errors = communicate(sweep, exits=INTERRUPTED)
    assert errors.startswith("interrupted; resume with: ")
    assert errors.endswith(f" --resume {run.relative_to(tmp_path)}\n")
    assert statuses(run) == [("finished", 1), ("planned", 1)]


def test_a_signal_during_the_report_of_a_whole_run_leaves_it_out(go: Path, tmp_path: Path) -> None:
    train = tmp_path / "train.py"
    train.write_text(train.read_text() + SLOW_REPORT)
    go.touch()
    (tmp_path / "slow").touch()
    sweep = start(*SWEEP, "--executor", "inline", cwd=tmp_path)
    wait_until((tmp_path / "reporting").exists, "the report is being written")
    sweep.send_signal(signal.SIGINT)
    _, errors = communicate(sweep, exits=INTERRUPTED)
    assert errors.startswith("interrupted; resume with: ")


COUNTS = """
from pathlib import Path
from ddl import Progress
def train(lr, resume=None):
    for step in range(resume["step"] + 1 if resume else 1, 100_000 if not Path("{go}").exists() else 301):
        Path("{go}.step").write_text(str(step))
        yield Progress(step=step, total_steps=300, metrics={{"val/loss": lr}}, state=lambda: {{"step": step}})
"""
"""A function that counts its steps. It does not end until there is a file."""


def test_no_checkpoint_is_ahead_of_the_ledger_when_a_sweep_is_stopped(command: Command, tmp_path: Path) -> None:
    go = tmp_path / "go"
    (tmp_path / "train.py").write_text(COUNTS.format(go=go), encoding="utf-8")
    options = (
        "lr=0.1",
        "seeds=1",
        "metric=val/loss",
        "wandb.mode=disabled",
        "resources.cpus=1",
        "checkpoint_every_s=0.001",
        "latency=none",
    )
    sweep = start("--sweep", "train.py:train", *options, cwd=tmp_path)

    def recorded() -> list[int]:
        ledgers = list(tmp_path.glob("runs/train/*/ledger.sqlite"))
        return LedgerReader(ledgers[0].parent).metrics().query("name == 'val/loss'")["step"].tolist() if ledgers else []

    wait_until(lambda: len(recorded()) > 20, "the trial is measured")
    (run,) = tmp_path.glob("runs/train/*")
    started = psutil.Process(sweep.pid).children(recursive=True)
    with closing(sqlite3.connect(run / "ledger.sqlite", timeout=60, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        (last,) = other.execute("SELECT max(step) FROM metrics").fetchone()
        wait_until(lambda: int((tmp_path / "go.step").read_text() or 0) > last, "a measurement waits for the ledger")
        sweep.send_signal(signal.SIGTERM)
        workers = [process for process in started if process.name() in ("raylet", "gcs_server") or process.name().startswith("ray::")]
        wait_until(lambda: not any(process.is_running() for process in workers), "Ray has ended")
    communicate(sweep, exits=INTERRUPTED)
    (trial,) = LedgerReader(run).trials()
    newest = checkpoints.newest(run / "trials" / trial.trial_id / "checkpoints", trial.trial_id)
    assert newest is not None
    assert newest[0] <= max(recorded())
    go.touch()
    command("--resume", str(run), "--executor", "inline")
    assert recorded() == list(range(1, 301))


CONNECTS = """
import contextlib, os, signal, threading
from ddl import checkpoints, ray_private

received = []
signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
started = threading.Event()

def send() -> None:
    while not started.wait(0.01):
        os.kill(os.getpid(), signal.SIGTERM)

def start() -> None:
    ray_private.start(folder, 1, 0, {}, quiet=True)
    started.set()
    ended.wait()
    ray_private.stop()

ended = threading.Event()
with ray_private.session_folder() as folder:
    ray = threading.Thread(target=start)
    sender = threading.Thread(target=send)
    sender.start()
    ray.start()
    sender.join()
    count = len(received)
    os.kill(os.getpid(), signal.SIGTERM)
    assert len(received) == count + 1
    ended.set()
    ray.join()
print("received", count > 0)
"""
"""A process that gets SIGTERM all the time while Ray starts in another thread."""


def test_sigterm_while_ray_starts_reaches_our_handler(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", CONNECTS], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
    assert (done.returncode, done.stdout) == (0, "received True\n"), done.stderr
