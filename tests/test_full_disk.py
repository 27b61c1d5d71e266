"""A sweep whose files cannot be written: one line, no traceback, and a command that continues it."""

import errno
import os
import sys
from pathlib import Path

import pytest

from ddl import durable, launch
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader

SWEEP = ("--sweep", "train.py:train", "lr=0.1,0.2", "seeds=1", "metric=val/loss", "--executor", "inline", "wandb.mode=disabled")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files for which there is no room."""
    (tmp_path / "train.py").write_text("def train(lr):\n    yield {'val/loss': lr}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "train", raising=False)  # of the test before
    full: set[str] = set()
    replace = os.replace

    def replace_if_there_is_room(draft: Path, path: Path) -> None:
        if Path(path).name in full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(draft, path)

    monkeypatch.setattr(durable.os, "replace", replace_if_there_is_room)
    return full


@pytest.mark.parametrize("name", ["results.csv", "report.html"])
def test_a_report_without_room_does_not_lose_the_sweep(name: str, disk: set[str], capfd: pytest.CaptureFixture[str]) -> None:
    disk.add(name)
    assert launch.main(SWEEP) == launch.FAILED
    (folder,) = Path("runs/train").iterdir()
    error = capfd.readouterr().err.strip()
    command = error.partition("Free some space there, then: ")[2]
    assert error.startswith(f"{folder / name}: cannot be written (No space left on device). ")
    assert command.endswith(f" --report {folder}")
    assert {trial.status for trial in LedgerReader(folder).trials()} == {"finished"}

    assert launch.main(["--report", str(folder)]) == launch.FAILED
    assert capfd.readouterr().err.count("\n") == 1

    disk.clear()
    assert launch.main(["--report", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} >= {"results.csv", "results.parquet", "report.html"}


def test_a_ledger_without_room_stops_the_sweep_in_order(
    disk: set[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Ledger.record

    def record_the_first_trial(ledger: Ledger, reports: list) -> None:
        if any(report.trial_id == ledger.trials()[1].trial_id for report in reports):
            raise durable.CannotWrite(errno.ENOSPC, "database or disk is full", str(ledger.path))
        record(ledger, reports)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "record", record_the_first_trial)
        assert launch.main(SWEEP) == launch.FAILED
    (folder,) = Path("runs/train").iterdir()
    error = capfd.readouterr().err.splitlines()[-1]  # the traceback before it goes to the log, unless a test captures it
    assert error.startswith(f"{folder / 'ledger.sqlite'}: cannot be written (database or disk is full). ")
    assert error.endswith(f" --resume {folder}")
    assert launch.main(["--resume", str(folder)]) == 0
    assert [trial.attempts for trial in LedgerReader(folder).trials()] == [1, 1]
