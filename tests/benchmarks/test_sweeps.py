"""The benchmark of whole sweeps: all three contestants run, and their results are compared correctly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.sweeps import workloads
from benchmarks.sweeps.__main__ import CONTESTANTS, SWEEPS, compare_quality, describe, earlier_results, geometric_means, summarise

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "augmentation": ["task.train_limit=32", "task.val_limit=32", "task.widths=[4]", "task.convolutions=1", "task.dense=8"],
    "regularisation": ["task.train_limit=32", "task.val_limit=32", "task.widths=[4]", "task.convolutions=2", "task.dense=8"],
    "representation": ["task.train_limit=64", "task.val_limit=32", "task.convolutional_widths=[2]", "task.dense_down=[8]"],
    "forecasting": ["task.passes=2"],
    "sentiment": ["task.train_limit=100", "task.val_limit=50", "task.hidden=4"],
    "cartpole": ["task.env_steps=640", "task.evaluate_every=320", "task.evaluation_episodes=3"],
}


@pytest.mark.campaign
def test_one_round_of_a_sweep_ends_with_a_table_and_json(tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks.sweeps", "--sweeps", "forecasting", "--quick", "--seeds", "2", "--out", str(tmp_path)]
    command += ["--overrides", "task.passes=2", "configurations=window 1,last value"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "naive / ours" in done.stdout
    assert "forecasting: equal quality" in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    found = results["sweeps"]["forecasting"]
    assert found["trials"] == 4
    assert {name: len(found["seconds"][name]) for name in CONTESTANTS} == {"ours": 1, "naive": 1, "tuned": 1}
    assert found["ratios"]["naive"] == pytest.approx(found["seconds"]["naive"][0] / found["seconds"]["ours"][0])
    assert results["geometric_means"] == pytest.approx(found["ratios"])
    by_name = {row["configuration"]: row for row in found["quality"]}
    assert by_name.keys() == {"window 1", "last value"}
    assert {by_name["window 1"][name]["n"] for name in CONTESTANTS} == {2}
    naive_forecast = [by_name["last value"][name]["mean"] for name in CONTESTANTS]
    assert naive_forecast == pytest.approx([naive_forecast[0]] * 3)


@pytest.mark.parametrize("sweep", SWEEPS)
def test_both_baselines_measure_every_configuration(sweep: str):
    from benchmarks.sweeps import agent, naive, tuned

    workload = describe(sweep, "smoke", ["seeds=1", *TINY[sweep]])
    task, metric = workload["task"], workload["metric"]
    for trial in workload["trials"]:
        first = list(naive.train(task, trial))
        if task == "CartPole":
            second = list(agent.train_batched(trial))
        elif (metrics := workloads.closed_form(task, trial)) is not None:
            second = [metrics]
        else:
            second = list(tuned.Trainer(task, trial, bf16=False).epochs(trial["seed"]))
        assert len(first) == len(second)
        assert all(metric["name"] in metrics for metrics in [*first, *second])


@pytest.mark.parametrize(("sweep", "configuration"), [("regularisation", "dropout"), ("sentiment", "LSTM")])
def test_the_baselines_drop_other_elements_at_each_step(sweep: str, configuration: str):
    workload = describe(sweep, "smoke", ["seeds=1", f"configurations={configuration}", *TINY[sweep]])
    problem = workloads.build(workload["task"], workload["trials"][0])
    problem.model.train()
    inputs, *_ = problem.train.batch(torch.arange(8))
    first, second = (problem.model(problem.prepare(inputs)) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(problem.model.eval()(problem.prepare(inputs)), problem.model(problem.prepare(inputs)))


def test_cartpole_baselines_make_as_many_updates_per_env_step_as_the_task():
    from benchmarks.sweeps.agent import Agent

    (trial, *_) = describe("cartpole", "sample", ["seeds=1"])["trials"]
    agent = Agent(trial)
    counts = {}
    agent._update = lambda env_steps: setattr(agent, "updates", agent.updates + 1)
    for env_steps in range(32, 3201, 32):
        agent.learn(env_steps)
        counts[env_steps] = agent.updates
    assert counts[480] == 0
    assert counts[512] == 2
    assert counts[3200] == 2 * (1 + (3200 - 512) // 32)


def test_sweeps_are_added_to_those_measured_before_with_the_same_settings(tmp_path: Path):
    path, settings = tmp_path / "results.json", {"machine": {"cores": 2}, "scale": "sample", "overrides": []}
    assert earlier_results(path, settings) == {}
    sweeps = {"sentiment": {"ratios": {"naive": 2.0}}, "cartpole": {"seconds": {}}}
    path.write_text(json.dumps(settings | {"sweeps": sweeps}))
    assert earlier_results(path, settings) == {"sentiment": sweeps["sentiment"]}, "no round of the other has ended"
    assert earlier_results(path, settings | {"scale": "smoke"}) == {}


def test_ratios_are_computed_within_a_round():
    seconds = {"ours": [1.0, 10.0, 2.0], "naive": [4.0, 20.0, 18.0], "tuned": [1.0, 10.0, 2.0]}
    assert summarise(seconds) == {"naive": 4.0, "tuned": 1.0}


def test_the_geometric_mean_is_over_sweeps():
    assert geometric_means({"a": {"ratios": {"naive": 2.0, "tuned": 1.0}}, "b": {"ratios": {"naive": 8.0, "tuned": 1.0}}}) == pytest.approx(
        {"naive": 4.0, "tuned": 1.0}
    )


def test_quality_is_equal_only_if_the_intervals_of_all_three_overlap():
    same, higher = [0.70, 0.71, 0.72], [0.90, 0.91, 0.92]
    rows = compare_quality(
        {
            "ours": {"a": same, "b": same, "c": [0.5], "d": [0.1, 0.1]},
            "naive": {"a": [0.69, 0.71, 0.73], "b": same, "c": [0.5], "d": [0.1, 0.1 + 1e-9]},
            "tuned": {"a": same, "b": higher, "c": [0.5], "d": [0.1, 0.1]},
        }
    )
    assert [row["overlap"] for row in rows] == [True, False, None, True]
