"""Population based training: trials behind continue from trials ahead, with values that stay within their axes."""

import json
import re
from pathlib import Path

import pytest

import ddl
from ddl import config
from ddl.ledger_reader import LedgerReader
from ddl.schema import Metric
from ddl.sweeps import prepare
from ddl.sweeps.prepare import RunOptions
from ddl.sweeps.ray_schedulers import CHANGED, make_scheduler

from .command import PLUGIN, Command, run_folder

POPULATION = """\
task: race
title: A population that learns to run
plugins: [race]
seeds: 1
samples: 4
wandb: {mode: disabled}
resources: {num_workers: 1, cpus: 1, gpus: auto}
search: {algorithm: pbt, every: 0.2}
space: {task.speed: {uniform: [1.0, 10.0]}}
metric: {name: val/come, mode: max}
scale: {smoke: {}, sample: {}, paper: {}}
"""


@pytest.mark.filterwarnings("default")  # as in the command's own process
def test_trials_behind_continue_from_trials_ahead(command: Command, tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "race.yaml").write_text((PLUGIN / "task" / "race.yaml").read_text())
    (tmp_path / "population.yaml").write_text(POPULATION)
    done = command("--sweep", "population.yaml", "--scale", "smoke", "task.pause_s=0.1")
    folder = run_folder(done.stdout, tmp_path)
    rows, metrics, events = LedgerReader(folder).trials(), LedgerReader(folder).metrics(), LedgerReader(folder).events()
    assert {row.status for row in rows} == {"finished"}
    come = metrics[metrics.name == "val/come"].groupby("trial_id")
    # A trial that continues from one further ahead skips the steps between.
    assert all(measured.step.is_unique and measured.step.max() == 20 for _, measured in come), "no step twice, and to the end"
    moved = [row for row in rows if row.metadata["changed"]["speed"] != row.task["speed"]]
    assert moved
    for row in moved:
        assert 1.0 <= row.metadata["changed"]["speed"] <= 10.0
        said = events[(events.trial_id == row.trial_id) & (events.kind == "started")].detail.iloc[-1]
        assert json.loads(said.partition("changed ")[2]) == row.metadata["changed"]
        taken = int(re.match(r"from step (\d+) ", said)[1])
        assert taken > 0, "from the other's step"
        # Whether it then comes further than it would have alone depends on its new speed.
        value, speed = come.get_group(row.trial_id).set_index("step").value, row.metadata["changed"]["speed"]
        assert value.loc[taken + 1] - speed >= value.loc[:taken].iloc[-1] - 1e-9, "the other was not behind"
        assert value.loc[20] == pytest.approx(value.loc[taken + 1] + (19 - taken) * speed), "at its new speed"


FUNCTION = """\
import time

import ddl


def train(speed: float, resume=None):
    come, first = (resume["come"], resume["step"]) if resume else (0.0, 0)
    for step in range(first, 20):
        time.sleep(0.1)
        come += speed
        yield ddl.Progress(metrics={"val/come": come}, state=lambda: {"come": come, "step": step + 1})
"""


@pytest.mark.campaign
@pytest.mark.filterwarnings("default")  # as in the command's own process
def test_a_function_that_continues_from_states_can_be_a_population(command: Command, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(FUNCTION)
    search = ("search.algorithm=pbt", "search.every=0.2", "samples=4", "measurements=20", "seeds=1", "resources.cpus=1")
    done = command("--sweep", "train.py:train", "speed={uniform: [1.0, 10.0]}", "metric=val/come", *search)
    reader = LedgerReader(run_folder(done.stdout, tmp_path))
    assert {row.status for row in reader.trials()} == {"finished"}
    assert any(row.metadata["changed"]["speed"] != row.task["speed"] for row in reader.trials())


def test_a_changed_value_stays_within_its_axis() -> None:
    settings = config.compose_sweep("augmentation", ["search.algorithm=pbt"], "smoke", []).launch
    axes = {"a": {"uniform": [0.5, 0.9]}, "b": {"randint": [2, 5]}}
    scheduler = make_scheduler(settings, Metric("val/come", "max"), axes, {})
    for seen, allowed in (({"a": 1.08, "b": 6}, {"a": 0.9, "b": 4}), ({"a": 0.4, "b": 1}, {"a": 0.5, "b": 2}), ({"a": 0.7, "b": 3},) * 2):
        assert scheduler._custom_explore_fn({CHANGED: dict(seen)}) == {CHANGED: allowed}
    whole = make_scheduler(settings, Metric("val/come", "max"), {"c": {"uniform": [0, 1]}, "d": {"loguniform": [1, 100]}}, {})
    assert whole._custom_explore_fn({CHANGED: {"c": 0.37, "d": 2.5}}) == {CHANGED: {"c": 0.37, "d": 2.5}}, "whole bounds, but not values"


def test_a_population_is_one_sweep(ask, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ask("samples: 4\nspace: {task.lr: {loguniform: [0.001, 0.1]}}\n")
    (tmp_path / "other.yaml").write_text((tmp_path / "small.yaml").read_text())
    with pytest.raises(config.ConfigError, match=r"pbt compares the trials of one sweep\. Set it to random for several sweeps"):
        ddl.run_sweep("small.yaml,other.yaml", ["search.algorithm=pbt"], scale="smoke")


@pytest.mark.parametrize(
    ("overrides", "executor", "said"),
    [
        (("search.algorithm=pbt", "task.lr=0.1,0.2"), "ray", "no axis is a distribution"),
        (("search.algorithm=pbt", "early_stopping.scheduler=asha"), "ray", "asha stops trials that pbt would continue"),
        (("search.algorithm=pbt",), "inline", "pbt compares trials that run in parallel. Use --executor ray"),
    ],
)
def test_settings_that_rule_out_a_population_are_reported(ask, overrides, executor, said, tmp_path) -> None:
    ask("samples: 4\nspace: {task.lr: {loguniform: [0.001, 0.1]}}\n")
    problems: list[str] = []
    prepare.prepare_run(str(tmp_path / "small.yaml"), RunOptions(overrides, "smoke", executor, None), problems)
    assert any(said in line for line in problems), problems


def test_what_gives_a_model_its_shape_cannot_change(ask, tmp_path) -> None:
    ask("samples: 4\nspace: {task.dense: {randint: [4, 90]}}\nsearch: {algorithm: pbt}\n")
    problems: list[str] = []
    prepare.prepare_run(str(tmp_path / "small.yaml"), RunOptions((), "smoke", "ray", None), problems)
    assert problems == [
        f"{tmp_path}/small.yaml:7: task.dense: pbt cannot change it while a trial trains. It can change: task.lr, task.momentum, task.dropout."
    ]
