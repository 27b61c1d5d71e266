"""The CartPole tasks: progress, resuming from a checkpoint, and rejected hyperparameters."""

import io
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ddl import checkpoints, config
from ddl.devices import Device
from ddl.progress import Diverged
from ddl.sweeps import space
from ddl.tasks.task import Task
from tests.tasks.steps import without_times

CPU = Device(torch.device("cpu"))
OWN = ("cartpole", "cartpole_temperature", "cartpole_table")
SMALL = {"cartpole": ("task.env_steps=960", "task.evaluate_every=320"), "cartpole_table": ("task.env_steps=960", "task.evaluate_every=320")}


def task_of(sweep: str, *overrides: str) -> Task:
    problems: list[str] = []
    composed = config.compose_sweep(sweep, overrides, "smoke", problems)
    trials = space.expand_trials(composed, problems) if composed else []
    assert problems == []
    return trials[0].task


@pytest.mark.parametrize("sweep", SMALL)
def test_a_task_yields_metadata_metrics_and_a_film_strip(sweep):
    steps = list(task_of(sweep, *SMALL[sweep]).run(CPU))

    assert steps[0].metadata["environment"] == "CartPole-v1"
    assert steps[0].metadata["parameters"] > 0
    assert [step.step for step in steps] == sorted({step.step for step in steps})
    assert steps[-1].step == steps[-1].total_steps == 960
    measured = [step for step in steps if step.metrics]
    assert [step.step for step in measured] == [0, 320, 640, 960]
    assert measured[-1].metrics.keys() >= {
        "train/episode_return",
        "train/episodes",
        "train/env_steps",
        "val/episode_return",
        "val/solved",
        "test/episode_return",
    }
    assert all(math.isfinite(value) for step in steps for value in step.metrics.values())
    picture = Image.open(io.BytesIO(steps[-1].figures["learned_episode.png"]))
    assert (picture.format, picture.size) == ("PNG", (900, 180))


@pytest.mark.parametrize("sweep", SMALL)
def test_a_resumed_task_gives_the_same_numbers(sweep, tmp_path):
    task, whole = task_of(sweep, *SMALL[sweep]), []
    for progress in task.run(CPU):
        if progress.step >= 480 and not list(tmp_path.iterdir()):
            checkpoints.store(tmp_path, "it", progress.step, progress.state())
        whole.append(progress)
    step, state = checkpoints.newest(tmp_path, "it")
    resumed = list(task.run(CPU, state))

    rest = [progress for progress in whole if progress.step > step]
    assert [progress.step for progress in resumed] == [progress.step for progress in rest]
    assert [without_times(progress.metrics) for progress in resumed] == [without_times(progress.metrics) for progress in rest]
    assert resumed[-1].figures == rest[-1].figures


def test_resuming_a_finished_trial_yields_nothing():
    task = task_of("cartpole", *SMALL["cartpole"])
    *_, last = task.run(CPU)
    assert list(task.run(CPU, last.state())) == []


def test_values_that_are_not_finite_end_the_trial_as_diverged():
    task = replace(task_of("cartpole", *SMALL["cartpole"], "task.env_steps=6400"), lr=1e38)
    with pytest.raises(Diverged, match="Q values are not finite after"):
        list(task.run(CPU))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.temperature=0.0", "task.temperature: should be greater than 0"),
        ("task.temperature=-1.0", "task.temperature: should be greater than 0"),
        ("task.temperature=.inf", "task.temperature: "),
        ("task.epsilon_start=1.5", "task.epsilon_start: should be less than or equal to 1"),
        ("task.epsilon_end=-0.1", "task.epsilon_end: should be greater than or equal to 0"),
        ("task.environment=Pendulum-v1", "task.environment: Pendulum-v1 has continuous actions"),
        ("task.environment=CartPool-v1", "task.environment: gymnasium cannot make 'CartPool-v1'"),
        ("task.runner_timeout_s=5.0", "task.runner_timeout_s: there are no runners to time: num_env_runners is 0"),
        ("task.num_env_runners=33", "task.num_env_runners: 33 runners cannot share 32 environments"),
        ("task.num_env_runners=-1", "task.num_env_runners: should be greater than or equal to 0"),
        ("task.replay_size=10", "task.replay_size: must hold one rollout, 32 transitions"),
        ("task.gamma=1.0", "task.gamma: should be less than 1"),
        ("task.alpha=0.0", "task.alpha: should be greater than 0"),
    ],
)
def test_bad_hyperparameters_are_rejected_before_training(override, message):
    problems: list[str] = []
    composed = config.compose_sweep("cartpole", [override], "smoke", problems)
    if composed is not None:
        space.expand_trials(composed, problems)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"command line: {message}"), problems


@pytest.mark.filterwarnings("ignore")  # RLlib's own
@pytest.mark.parametrize("algorithm", ["rllib_dqn", pytest.param("rllib_ppo", marks=pytest.mark.campaign)])
def test_rllibs_algorithms_yield_the_same_metrics_and_resume_from_their_weights(algorithm, tmp_path):
    small = ("task.dqn_env_steps=400", "task.ppo_env_steps=4000", "task.evaluate_every=200", "task.evaluation_episodes=4")
    task = replace(task_of("cartpole_rllib", *small), algorithm=algorithm)
    steps = []
    for progress in task.run(CPU):
        if progress.step and not list(tmp_path.iterdir()):
            checkpoints.store(tmp_path, "it", progress.step, progress.state())
        steps.append(progress)

    assert steps[-1].step == steps[-1].total_steps
    assert steps[-1].metrics.keys() >= {"train/episode_return", "train/episodes", "val/episode_return", "test/episode_return", "val/solved"}
    assert "learned_episode.png" in steps[-1].figures
    longer = replace(task, dqn_env_steps=600, ppo_env_steps=8000)
    step, state = checkpoints.newest(tmp_path, "it")
    resumed = list(longer.run(CPU, state))
    assert [progress.step for progress in resumed] == sorted(progress.step for progress in resumed)
    assert resumed[0].step > step
    assert resumed[-1].metrics["train/episodes"] > steps[1].metrics["train/episodes"]
