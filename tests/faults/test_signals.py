"""Sweeps in processes of their own, of which some are killed, or which get signals."""

from pathlib import Path

import psutil
import pytest

from ddl.ledger_reader import LedgerReader
from tests.sweeps.command import Command, communicate, nothing_left, start  # noqa: F401  the fixture `nothing_left`
from tests.sweeps.command import command as command  # a fixture
from tests.waiting import wait_until

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


def run_in(folder: Path) -> Path:
    """The only run in `folder`, once one of its trials has finished and the other one runs."""

    def waits() -> bool:
        ledgers = list(folder.glob("runs/train/*/ledger.sqlite"))
        return bool(ledgers) and [status for status, _ in statuses(ledgers[0].parent)] == ["finished", "running"]

    wait_until(waits, "one trial has finished, the other one runs")
    return next(folder.glob("runs/train/*"))


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_sweep_whose_ray_dies_says_so_and_is_resumed(name: str, go: Path, command: Command, tmp_path: Path) -> None:
    sweep = start(*SWEEP, cwd=tmp_path)
    run = run_in(tmp_path)
    started = psutil.Process(sweep.pid).children(recursive=True)
    (killed,) = [process for process in started if process.name() == name]
    killed.kill()
    _, errors = communicate(sweep, exits=1)
    line = f"Ray's {name} died (SIGKILL), and with it the trials that were running. To continue: "
    assert errors.startswith(line)
    assert errors.count("\n") == 1
    assert errors.endswith(f" --resume {run.relative_to(tmp_path)}\n")
    assert statuses(run) == [("finished", 1), ("planned", 1)]
    assert (run / "report.html").is_file()
    wait_until(lambda: not any(process.is_running() for process in started), "all processes of the sweep have ended")

    go.touch()
    command("--resume", str(run), "--executor", "inline")
    assert statuses(run) == [("finished", 1), ("finished", 2)]
