"""Trials in trouble, under Ray and in one process: each ends alone, and what it printed is in the log."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow

from .command import PLUGIN, Command, launch, run_folder, settled

MISCHIEF = str(PLUGIN / "mischief.yaml")


def assert_that_the_log_has_all_that_was_printed(folder: Path, output: str) -> None:
    log = (folder / "launch.log").read_text()
    printing = [trial.trial_id for trial in LedgerReader(folder).trials() if trial.task["deed"].startswith("print")]
    assert len(printing) == 2
    for trial_id in printing:
        printed = re.findall(rf"^{trial_id}: (?:an error|line) (\d+)$", log, re.MULTILINE)
        assert list(map(int, printed)) == list(range(20_000))
    for noise in ("Failed to fetch metrics", "\x1b["):
        assert noise not in log + output


def test_the_log_has_all_that_trials_print_in_one_process_and_no_noise(command: Command, tmp_path: Path) -> None:
    arguments = ("--scale", "smoke", "--executor", "inline", f"task.marks={tmp_path}", "task.deed=print", "seeds=2")
    done = command("--sweep", MISCHIEF, *arguments)
    assert_that_the_log_has_all_that_was_printed(run_folder(done.stdout, tmp_path), done.stdout + done.stderr)


@dataclass(frozen=True)
class MischiefRun:
    """A sweep of trials in trouble, each in another one, under Ray. `marks` is the folder with a file per attempt."""

    output: str
    folder: Path
    marks: Path
    rows: dict[str, TrialRow]


@pytest.fixture(scope="module")
def mischief(tmp_path_factory: pytest.TempPathFactory) -> MischiefRun:
    folder = tmp_path_factory.mktemp("mischief")
    # The first two are timed by the plan. Each step takes longer than `checkpoint_every_s`, so each is stored.
    deeds = "task.deed=none,'die once',die,raise,'nan',exit,'raise what cannot be printed',print,'print too'"
    done = launch("--sweep", MISCHIEF, "--scale", "smoke", f"task.marks={folder}", deeds, "task.pause_s=0.02", cwd=folder, exits=1)
    run = run_folder(done.stdout, folder)
    return MischiefRun(done.stdout + done.stderr, run, folder, {trial.configuration: trial for trial in LedgerReader(run).trials()})


def test_one_failing_trial_stops_nothing_else(mischief: MischiefRun) -> None:
    assert {name: mischief.rows[name].status for name in ("none", "raise", "nan")} == {
        "none": "finished",
        "raise": "failed",
        "nan": "diverged",
    }
    assert "meant to fail" in mischief.rows["raise"].reason
    assert "val/total" in mischief.rows["nan"].reason
    assert mischief.rows["raise"].attempts == 1, "an error in the code is not tried again"
    assert "failed: raise seed 0" in mischief.output


def assert_that_what_was_raised_ended_that_trial_alone(rows: dict[str, TrialRow]) -> None:
    assert {name: rows[name].status for name in ("exit", "raise what cannot be printed", "none")} == {
        "exit": "failed",
        "raise what cannot be printed": "failed",
        "none": "finished",
    }
    assert rows["exit"].reason.startswith("SystemExit: ")
    assert rows["raise what cannot be printed"].reason.startswith("Unprintable: <exception str() failed> (mischief.py:")


def test_the_log_has_all_that_trials_print_on_ray_and_no_noise(mischief: MischiefRun) -> None:
    assert_that_the_log_has_all_that_was_printed(mischief.folder, mischief.output)


def test_whatever_a_trial_raises_ends_that_trial_alone(mischief: MischiefRun) -> None:
    assert_that_what_was_raised_ended_that_trial_alone(mischief.rows)


def test_whatever_a_trial_raises_ends_that_trial_alone_in_one_process(command: Command, tmp_path: Path) -> None:
    deeds = "task.deed=exit,'raise what cannot be printed',none"
    done = command("--sweep", MISCHIEF, "--scale", "smoke", "--executor", "inline", f"task.marks={tmp_path}", deeds, exits=1)
    rows = {trial.configuration: trial for trial in LedgerReader(run_folder(done.stdout, tmp_path)).trials()}
    assert_that_what_was_raised_ended_that_trial_alone(rows)


def test_a_lost_process_starts_again_from_its_checkpoint_and_only_as_often_as_allowed(mischief: MischiefRun) -> None:
    rows = mischief.rows
    assert {name: rows[name].status for name in ("none", "die once", "die")} == {
        "none": "finished",
        "die once": "finished",
        "die": "failed",
    }
    results = settled(mischief.folder).set_index("configuration")
    assert results.loc["die once", "val/total"] == results.loc["none", "val/total"] == 0 + 1 + 2 + 3 + 4 + 5
    assert rows["die once"].attempts == 2
    assert len(list(mischief.marks.glob("die once-*-from-3"))) == 1, "the second attempt continues from the checkpoint"
    assert rows["die"].attempts == 1 + 2, "one attempt and two retries"


@pytest.mark.filterwarnings("default")  # as in the command's own process
def test_a_process_that_dies_when_it_gets_its_next_trial_is_replaced(command: Command, tmp_path: Path) -> None:
    one_at_a_time = f"resources.cpus={len(os.sched_getaffinity(0))}"
    done = command(
        "--sweep",
        str(PLUGIN / "perishable.yaml"),
        "--scale",
        "smoke",
        one_at_a_time,
        f"task.driver={os.getpid()}",
        f"task.marks={tmp_path}",
    )
    assert (tmp_path / "died").exists()
    trials = LedgerReader(run_folder(done.stdout, tmp_path)).trials()
    assert [trial.status for trial in trials] == ["finished", "finished"]
