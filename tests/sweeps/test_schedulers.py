"""Early stopping: which trials are stopped, that diverged trials do not matter, and the state after a resume."""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from ddl import config
from ddl.ledger_reader import LedgerReader
from ddl.schema import EarlyStopping, Metric
from ddl.sweeps import ray_stops
from ddl.sweeps.ray_schedulers import InOrder, make_scheduler
from ddl.trial_report import TrialReport
from tests.ledgers import edited_ledger

from .command import PLUGIN, Command, run_folder

RACE = str(PLUGIN / "race.yaml")
MORE = Metric("val/come", "max")
LESS = Metric("val/come", "min")
KINDS = ("asha", "median")
DEFAULTS = config.compose_sweep("augmentation", [], "smoke", []).launch


class Race:
    """Trials that report to a scheduler by hand."""

    def __init__(self, kind: str, metric: Metric = MORE, history: Sequence[tuple[str, float, float]] = ()):
        self._metric = metric
        self._scheduler = make_scheduler(replace(DEFAULTS, early_stopping=EarlyStopping(kind, 0.1, 3.0)), metric, {}, history)

    def report(self, name: str, percent: float, value: float | None) -> str:
        return self._reports([name], self._measured(name, percent, value))

    def report_together(self, percent: float, **values: float) -> str:
        """The members of one pack measure at the same step."""
        return self._reports(list(values), *(self._measured(name, percent, value) for name, value in values.items()))

    def end(self, name: str, status: str) -> None:
        self._reports([name], TrialReport(name, "ended", status=status))

    def _measured(self, name: str, percent: float, value: float | None) -> TrialReport:
        metrics = {} if value is None else {self._metric.name: value}
        return TrialReport(name, "measured", step=round(10 * percent), total_steps=1000, metrics=metrics)

    def _reports(self, members: list[str], *reports: TrialReport) -> str:
        pack = SimpleNamespace(members=[SimpleNamespace(trial_id=name) for name in members])
        trial = SimpleNamespace(trial_id="in Tune", config={"pack": pack})
        self._scheduler.on_trial_add(None, trial)
        return self._scheduler.on_trial_result(None, trial, {"reports": reports})


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_with_more_steps_than_it_was_said_to_have_is_not_stopped_for_that(kind):
    race = Race(kind)
    assert [race.report("long", percent, 1.0) for percent in (50, 100, 150)] == [TrialScheduler.CONTINUE] * 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("metric", "sign"), [(MORE, 1.0), (LESS, -1.0)], ids=["max", "min"])
def test_the_one_behind_is_stopped_and_the_one_ahead_is_not(kind, metric, sign):
    race = Race(kind, metric)
    for name, value in (("a", 5.0), ("b", 6.0), ("c", 7.0)):
        assert race.report(name, 40.0, sign * value) == TrialScheduler.CONTINUE or kind == "asha"
    assert race.report("ahead", 40.0, sign * 8.0) == TrialScheduler.CONTINUE
    assert race.report("behind", 40.0, sign * 1.0) == TrialScheduler.STOP


@pytest.mark.parametrize("kind", KINDS)
def test_a_measurement_that_a_trial_repeats_when_it_continues_is_not_compared_again(kind):
    race = Race(kind)
    assert race.report("first", 20.0, 3.0) == TrialScheduler.CONTINUE
    for name in "abc":
        race.report(name, 20.0, 6.0)
        race.report(name, 40.0, 6.0)
    assert race.report("first", 20.0, 3.0) == TrialScheduler.CONTINUE
    assert race.report("first", 40.0, 10.0) == TrialScheduler.CONTINUE, "its mean is 6.5"


@pytest.mark.parametrize("kind", KINDS)
def test_no_trial_is_stopped_before_the_grace_period_or_without_a_measurement(kind):
    race = Race(kind)
    for name in "abc":
        race.report(name, 9.0, 5.0)
        race.report(name, 40.0, 5.0)
    assert race.report("behind", 9.0, 1.0) == TrialScheduler.CONTINUE
    assert race.report("behind", 40.0, None) == TrialScheduler.CONTINUE
    assert race.report("behind", 40.0, 1.0) == TrialScheduler.STOP


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("status", "stopped"), [("diverged", False), ("finished", True)])
def test_a_diverged_trial_moves_no_cut_off(kind, status, stopped):
    race = Race(kind)
    for name in ("high 1", "high 2", "high 3", "high 4"):
        race.report(name, 40.0, 1000.0)
        race.end(name, status)
    for name, value in (("a", 5.0), ("b", 4.0), ("c", 3.0)):
        race.report(name, 40.0, value)
    assert race.report("one", 40.0, 6.0) == (TrialScheduler.STOP if stopped else TrialScheduler.CONTINUE)


@pytest.mark.parametrize("kind", KINDS)
def test_what_earlier_trials_measured_is_known(kind):
    values = {"a": 5.0, "b": 6.0, "c": 7.0}
    history = [(name, percent, value * percent / 40.0) for percent in (20.0, 40.0) for name, value in values.items()]
    race = Race(kind, history=history)
    assert race.report("ahead", 40.0, 9.0) == TrialScheduler.CONTINUE
    assert race.report("behind", 40.0, 1.0) == TrialScheduler.STOP
    alone = Race(kind)
    assert alone.report("behind", 40.0, 1.0) == TrialScheduler.CONTINUE


def test_an_interrupted_trial_does_not_stop_a_better_one_after_a_resume():
    # `ahead` was interrupted at 55 % and continues there. Its later measurements must not count as its earlier ones.
    history = [("ahead", 5.0 * step, 9.0 * step) for step in range(1, 12)]
    race = Race("asha", history=history)
    assert race.report("ahead", 60.0, 9.0 * 12) == TrialScheduler.CONTINUE
    for step in range(1, 21):
        assert race.report("better", 5.0 * step, 12.0 * step) == TrialScheduler.CONTINUE


def test_a_decision_that_the_driver_did_not_live_to_carry_out_is_carried_out_after_a_resume():
    history = [(name, 40.0, value) for name, value in (("a", 5.0), ("b", 6.0), ("c", 7.0), ("behind", 1.0))]
    assert Race("median", history=history).report("behind", 45.0, 100.0) == TrialScheduler.STOP


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("metric", "sign"), [(MORE, 1.0), (LESS, -1.0)], ids=["max", "min"])
def test_of_a_pack_of_several_only_those_behind_are_stopped(kind, metric, sign, monkeypatch: pytest.MonkeyPatch):
    told: list[tuple[str, set[str]]] = []
    monkeypatch.setattr(ray_stops, "stop_members", lambda pack, trials: told.append((pack, set(trials))))
    race = Race(kind, metric)
    for percent in (20.0, 40.0, 41.0, 42.0):
        decision = race.report_together(percent, worst=sign * 1.0, bad=sign * 2.0, good=sign * 8.0, best=sign * 9.0, fair=sign * 8.0)
        assert decision == TrialScheduler.CONTINUE, "the pack goes on"
    assert {pack for pack, _ in told} == {"in Tune"}
    assert all(earlier != later for earlier, later in pairwise(told)), "each decision is told once"
    assert told[-1][1] >= {"worst", "bad"}
    assert not told[-1][1] & {"best"}
    assert race.report("worst", 45.0, sign * 100.0) == TrialScheduler.STOP, "a trial that is stopped stays so"


@pytest.mark.parametrize(("kind", "rule"), [("asha", AsyncHyperBandScheduler), ("median", MedianStoppingRule)])
def test_a_scheduler_has_the_rule_of_its_name(kind, rule):
    scheduler = make_scheduler(replace(DEFAULTS, early_stopping=EarlyStopping(kind, 0.1, 3.0)), MORE, {}, ())
    assert isinstance(scheduler, rule)


def test_none_is_the_default():
    assert DEFAULTS.early_stopping.scheduler == "none"
    assert DEFAULTS.search.algorithm == "random"
    assert isinstance(make_scheduler(DEFAULTS, MORE, {}, ()), InOrder)


@pytest.mark.filterwarnings("default")  # as in the command's own process
def test_a_sweep_stops_those_behind_records_it_and_a_resume_remembers(command: Command, tmp_path: Path):
    done = command("--sweep", RACE, "--scale", "smoke", "early_stopping.scheduler=asha")
    folder = run_folder(done.stdout, tmp_path)
    rows = {trial.configuration: trial for trial in LedgerReader(folder).trials()}
    assert rows["speed=9"].status == "finished"
    assert rows["speed=1"].status == "stopped"
    assert rows["speed=1"].reason.startswith("by the scheduler at step ")
    metrics = LedgerReader(folder).metrics()
    last = metrics[metrics.name == "val/come"].groupby("trial_id").step.max()
    assert last[rows["speed=9"].trial_id] == 20
    assert last[rows["speed=1"].trial_id] < 10, "it saved most of its steps"
    used = metrics[metrics.name == "device/memory_peak_mb"]
    assert sorted(used.trial_id) == sorted(row.trial_id for row in rows.values()), "each once, also the stopped ones"
    assert "stopped" in (folder / "report.html").read_text(encoding="utf-8")

    # The slowest again, alone: only what the ledger knows of the others can stop it.
    with edited_ledger(folder) as ledger:
        ledger.execute("UPDATE trials SET status = 'planned' WHERE trial_id = ?", (rows["speed=1"].trial_id,))
    command("--resume", str(folder))
    after = {trial.configuration: trial for trial in LedgerReader(folder).trials()}
    assert after["speed=1"].status == "stopped"
    assert after["speed=1"].attempts == 2
    assert {name: row.attempts for name, row in after.items() if name != "speed=1"} == {name: 1 for name in rows if name != "speed=1"}


RAISES = """
from ddl import Progress

def train(lr: float):
    yield Progress(step=1, total_steps=10, metrics={"val/loss": lr})
    raise RuntimeError("meant to fail")
"""


def test_the_length_of_a_trial_is_known_after_its_first_step(command: Command, tmp_path: Path):
    """A resume gives the scheduler all measurements, each at its part of the trial's steps."""
    (tmp_path / "raises.py").write_text(RAISES)
    settings = ("measurements=10", "seeds=1", "wandb.mode=disabled", "--executor", "inline")
    done = command("--sweep", "raises.py:train", "metric=val/loss", "lr=2", *settings, exits=1)
    (trial,) = LedgerReader(run_folder(done.stdout, tmp_path)).trials()
    assert trial.metadata["total_steps"] == 10


DIES_ONCE = """
import os
import signal
from pathlib import Path

from ddl import Progress

def train(lr: float, *, seed: int, resume=None):
    for step in range(resume["step"] + 1 if resume else 1, 11):
        if lr == 2 and step == 5 and not (died := Path("{folder}/died")).exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield Progress(step=step, total_steps=10, metrics={"val/loss": lr}, state=lambda step=step: {"step": step})
"""


@pytest.mark.filterwarnings("default")  # as in the command's own process
def test_a_trial_whose_process_died_starts_again_before_the_next_one_so_the_decisions_are_the_same(command: Command, tmp_path: Path):
    (tmp_path / "dies_once.py").write_text(DIES_ONCE.replace("{folder}", str(tmp_path)))
    settings = (
        "measurements=10",
        "seeds=1",
        "wandb.mode=disabled",
        "checkpoint_every_s=0.001",
        f"resources.cpus={len(os.sched_getaffinity(0))}",
    )
    done = command("--sweep", "dies_once.py:train", "metric=val/loss", "lr=2,1,3", "early_stopping.scheduler=asha", *settings)
    reader = LedgerReader(run_folder(done.stdout, tmp_path))
    assert (tmp_path / "died").exists()
    events = reader.events()
    assert list(events[events.kind == "started"].trial_id.map({trial.trial_id: trial.configuration for trial in reader.trials()})) == [
        "lr=2", "lr=2", "lr=1", "lr=3"
    ]  # fmt: skip
    assert [trial.status for trial in reader.trials()] == ["finished", "finished", "stopped"]


def test_one_process_cannot_compare_and_says_so(command: Command, tmp_path: Path):
    done = command("--sweep", RACE, "--executor", "inline", "early_stopping.scheduler=median", exits=2)
    assert "early_stopping.scheduler: median compares trials that run in parallel. Use --executor ray, or set it to none." in done.stderr
    assert not list(tmp_path.iterdir())
