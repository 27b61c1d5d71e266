"""Finished trials whose files are gone: named at a resume, and trained again if asked."""

import shutil
import sys
from pathlib import Path

import pytest

import ddl
from ddl import launch
from ddl.again import lost_trials
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.run_results import Run
from ddl.storage.runs import RunStore
from ddl.trial_report import TrialReport

TRAIN = """\
from pathlib import Path
import ddl

def train(lr: float, *, resume=None):
    for step in range(0 if resume is None else resume["step"], 2):
        with Path("steps").open("a") as file:
            file.write(f"{lr} {step}\\n")
        yield ddl.Progress(metrics={"val/loss": lr / (step + 1)}, total_steps=2, state=lambda: {"step": step + 1})
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run of two trials, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "again_train", raising=False)
    (tmp_path / "again_train.py").write_text(TRAIN)
    return ddl.run_sweep("again_train.py:train", ["lr=0.5,0.25", "seeds=1", "metric=val/loss", "wandb.mode=disabled"], executor="inline")


def steps() -> list[str]:
    return Path("steps").read_text().splitlines()


def test_a_trial_that_lost_its_files_is_named_and_trained_again(run: Run, capfd: pytest.CaptureFixture) -> None:
    before = run.results
    lost = run.trials[0].trial_id
    shutil.rmtree(run.folder / "trials" / lost)
    Path("steps").unlink()
    assert launch.main(["--resume", str(run.folder)]) == 0
    assert "the files of 1 finished trial are gone; to train again: " in capfd.readouterr().out
    assert not Path("steps").exists(), "it only says so"
    assert launch.main(["--resume", str(run.folder), "--again", lost]) == 0
    assert "are gone" not in capfd.readouterr().out
    assert steps() == ["0.5 0", "0.5 1"], "from its beginning, and no other"
    assert (run.folder / "trials" / lost / "checkpoints").is_dir()
    assert list(run.results["val/loss"]) == list(before["val/loss"])
    assert [trial.attempts for trial in run.trials] == [2, 1]
    assert LedgerReader(run.folder).events().query("kind == 'forgotten'").trial_id.tolist() == [lost]


def test_a_trial_is_trained_again_although_its_files_are_there(run: Run) -> None:
    first, second = (trial.trial_id for trial in run.trials)
    Path("steps").unlink()
    ddl.resume(run.folder, again=[second, first])
    assert sorted(steps()) == ["0.25 0", "0.25 1", "0.5 0", "0.5 1"]
    assert LedgerReader(run.folder).metrics().groupby(["trial_id", "name", "step"]).size().max() == 1


def test_a_refused_resume_removes_nothing(run: Run, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run.trials[0].trial_id
    files = sorted(run.folder.rglob("*"))
    assert launch.main(["--resume", str(run.folder), "--again", f"{first}x"]) == launch.BAD_INPUT
    assert f"--again {first}x: the run has no such trial. Did you mean {first}?" in capfd.readouterr().err
    Path("again_train.py").write_text(TRAIN + "\n\nMORE = 1\n")
    assert launch.main(["--resume", str(run.folder), "--again", first]) == launch.BAD_INPUT
    assert "the code has changed" in capfd.readouterr().err
    assert set(run.folder.rglob("*")) >= set(files)
    assert {trial.status for trial in run.trials} == {"finished"}


def test_no_trial_is_lost_where_none_has_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = ddl.sweep(lambda x: {"score": x}, {"x": [1, 2]}, metric="score", seeds=1, executor="inline")
    with Ledger(run.folder) as ledger:
        assert lost_trials([ledger]) == []


def test_a_trial_that_was_stopped_before_its_first_checkpoint_has_lost_nothing(run: Run) -> None:
    first = run.trials[0].trial_id
    shutil.rmtree(run.folder / "trials" / first)
    with Ledger(run.folder) as ledger:
        assert lost_trials([ledger]) == [first]
        ledger.record([TrialReport(first, "started")])
        ledger.record([TrialReport(first, "ended", status="stopped", reason="by the scheduler")])
        assert lost_trials([ledger]) == []


def test_the_files_of_a_trial_are_removed_from_the_store(tmp_path: Path) -> None:
    names = ["ledger.sqlite", "trials/a/checkpoints/1/state", "trials/ab/figures/c.png", "other/trials/a/figures/c.png", "trials/a"]
    for name in names[:-1]:
        (tmp_path / "store" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "store" / name).write_text("x")
    RunStore(tmp_path / "local", f"file://{tmp_path}/store").remove_trials(["a"])
    left = {path.relative_to(tmp_path / "store").as_posix() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert left == {"ledger.sqlite", "trials/ab/figures/c.png"}
