"""Commands whose standard output is closed, full, or no longer read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddl.ledger_reader import LedgerReader
from ddl.standard_streams import UntilItBreaks
from tests.codebase import ROOT

LAUNCH = [sys.executable, str(ROOT / "launch.py")]


def test_a_sweep_outlives_the_reader_of_its_output(tmp_path: Path) -> None:
    (tmp_path / "piped.py").write_text("def train(lr): return {'val/loss': lr}")
    sweep = ["--sweep", "piped.py:train", "lr=0.1,0.2", "seeds=1", "metric=val/loss", "--executor", "inline", "wandb.mode=disabled"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*LAUNCH, *sweep], cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "standard output cannot be written any more (Broken pipe). The sweep continues.\n")
    (run,) = tmp_path.glob("runs/train/*")
    assert [trial.status for trial in LedgerReader(run).trials()] == ["finished"] * 2
    assert (run / "report.html").is_file()


def test_a_full_disk_is_an_error_and_a_reader_that_ends_is_none() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*LAUNCH, "--list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "standard output cannot be written: No space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*LAUNCH, "--list"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_printed_does_not_go_to_a_file_that_was_opened_instead(tmp_path: Path, closed: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from ddl.launch import main
from ddl.standard_streams import open_closed_streams
open_closed_streams()
with open("opened", "w") as file:
    main(["--list"])
    main(["--lst"])
"""
    subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "opened").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--lst"], 2),
        (["--sweep"], 2),
        (["--sweep", "augmentation", "task.lrr=1"], 2),
        (["--resume", "nowhere"], 2),
        (["--prepare-data", "nothing"], 2),
    ],
)
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_a_message_that_cannot_be_printed_does_not_change_the_exit_status(
    tmp_path: Path, arguments: list[str], code: int, stderr: str
) -> None:
    done = subprocess.run(["sh", "-c", f'"$@" {stderr}', "sh", *LAUNCH, *arguments], cwd=tmp_path, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (code, b"")


def test_text_after_a_broken_pipe_is_discarded(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        output = UntilItBreaks(stream)
        output.write("read\n")
        output.flush()
        assert os.read(reading, 100) == b"read\n"
        os.close(reading)
        for _ in range(2):
            assert output.write("x" * 100_000) == 100_000
            output.flush()
    assert capsys.readouterr().err == "standard output cannot be written any more (Broken pipe). The sweep continues.\n"
