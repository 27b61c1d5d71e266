"""Trials on GPUs that are simulated (plugin/simulated_gpus.py), on a real private Ray cluster."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from ddl.ledger_reader import LedgerReader

from .command import PLUGIN, launch, run_folder
from .plugin.marks import read_marks

SWEEP = str(PLUGIN / "simulated_gpus.yaml")


def most_at_once(marks: list[dict]) -> dict[str, int]:
    """The largest number of processes that used each GPU at the same time."""
    most: dict[str, int] = defaultdict(int)
    for mark in marks:
        together = [other for other in marks if other["gpu"] == mark["gpu"] and other["began"] <= mark["began"] < other["ended"]]
        most[mark["gpu"]] = max(most[mark["gpu"]], len(together))
    return dict(most)


def test_trials_share_a_gpu_as_the_plan_measured_it(tmp_path: Path) -> None:
    done = launch(
        "--sweep", SWEEP, "--scale", "smoke", "seeds=2", "task.steps=100", f"task.marks={tmp_path}", cwd=tmp_path, DDL_TEST_GPUS="1"
    )
    assert "0.5 of 1 GPUs; trials at a time: 2" in " ".join(done.stdout.split())
    trials = LedgerReader(run_folder(done.stdout, tmp_path)).trials()
    assert {trial.status for trial in trials} == {"finished"}
    marks = read_marks(tmp_path)
    assert most_at_once(marks) == {"0": 2}
    # Probes of the first kind run alone, those of the second kind together; each ends with its process, which trials do not use.
    in_order = sorted(marks, key=lambda mark: mark["began"])
    probes, trained = in_order[:-4], in_order[-4:]
    by_process: dict[int, list[dict]] = {}
    for mark in probes:
        by_process.setdefault(mark["pid"], []).append(mark)
    assert {len(marks) for marks in by_process.values()} == {2}, "one probe: its timed steps, and a second start"
    assert by_process.keys().isdisjoint(mark["pid"] for mark in trained)
    last_two = [marks[0] for marks in list(by_process.values())[-2:]]
    assert min(mark["ended"] for mark in last_two) - max(mark["began"] for mark in last_two) > 3.0, "they were timed at the same time"


@pytest.mark.campaign
def test_every_gpu_is_used_by_one_trial_at_a_time_and_one_that_runs_out_of_memory_alone_fails_with_the_reason(tmp_path: Path) -> None:
    arguments = ("resources.gpus=1", "resources.cpus=1", "seeds=2", "task.memory=0.5,0.6,1.1", "task.steps=20", f"task.marks={tmp_path}")
    done = launch("--sweep", SWEEP, "--scale", "smoke", *arguments, cwd=tmp_path, exits=1, DDL_TEST_GPUS="2")
    trials = LedgerReader(run_folder(done.stdout, tmp_path)).trials()
    assert {trial.status for trial in trials if trial.configuration != "memory=1.1"} == {"finished"}
    assert most_at_once(read_marks(tmp_path)) == {"0": 1, "1": 1}
    too_large = [trial for trial in trials if trial.configuration == "memory=1.1"]
    assert [(trial.status, trial.attempts) for trial in too_large] == [("failed", 1)] * 2
    assert all(trial.reason.startswith("OutOfMemoryError: CUDA out of memory.") for trial in too_large)


def test_a_trial_that_runs_out_of_memory_gets_more_of_the_gpu_and_its_sibling_is_not_disturbed(tmp_path: Path) -> None:
    arguments = ("resources.gpus=0.5", "task.memory=0.6,0.61", "task.steps=300", f"task.marks={tmp_path}")
    done = launch("--sweep", SWEEP, "--scale", "smoke", *arguments, cwd=tmp_path, DDL_TEST_GPUS="1")
    folder = run_folder(done.stdout, tmp_path)
    trials = LedgerReader(folder).trials()
    assert {trial.status for trial in trials} == {"finished"}
    assert sorted(trial.attempts for trial in trials)[-1] >= 2
    events = LedgerReader(folder).events()
    details = events[events.kind == "out_of_memory"].detail
    assert set(details) == {"out of memory with gpus=0.5, starts again with gpus=1"}
    assert re.search(r"seed 0 out of memory with gpus=0\.5, starts again with gpus=1", done.stdout)
    steps = LedgerReader(folder).metrics().query("name == 'val/steps'").groupby("trial_id").step
    assert (steps.nunique() == 300).all()
    assert (steps.size() == 300).all(), "no step twice"
