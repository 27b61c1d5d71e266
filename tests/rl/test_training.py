"""Whole trainings: stacked equals separate, resumed equals never stopped, and one member's trouble is its own."""

import copy
from dataclasses import replace

import pytest
import torch

from ddl.rl import training as training_module
from ddl.rl.env_runners import local_sampler
from ddl.rl.environments import EnvState
from ddl.rl.learner import QLearner
from ddl.rl.replay import TransitionBatch
from ddl.rl.training import VectorisedTraining
from ddl.rl.vectorised_agents import VectorisedAgents

from .stacks import MEMBER, members, settings

CPU = torch.device("cpu")


def measured(training: VectorisedTraining) -> dict[int, list[dict[str, float]]]:
    """Every metric of each member, without those in seconds."""
    found: dict[int, list[dict[str, float]]] = {index: [] for index in range(len(training.stack))}
    for step in training.run():
        for index, metrics in step.measured.items():
            found[index].append({name: value for name, value in metrics.items() if not name.startswith("time/")})
    return found


def test_a_member_of_32_is_what_it_would_be_alone():
    together = VectorisedTraining(members(8), settings(), CPU)
    stacked = measured(together)
    for index in (0, 5, 18, 31):
        alone = VectorisedTraining([members(8)[index]], settings(), CPU)
        for ours, theirs in zip(measured(alone)[0], stacked[index], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
        torch.testing.assert_close(alone.learner.newest[0], together.learner.newest[index], rtol=1e-4, atol=1e-4)
    returns = {tuple(metrics["train/episode_return"] for metrics in found[1:]) for found in stacked.values()}
    assert len(returns) == 32, "no two members live the same life"


def test_resuming_equals_never_stopping():
    whole = VectorisedTraining(members(1), settings(), CPU)
    expected, state = {}, None
    for step in whole.run():
        if step.env_steps == 1120:
            state = copy.deepcopy(step.state())
        if step.env_steps > 1120 and step.measured:
            expected = step.measured
    resumed = VectorisedTraining(members(1), settings(), CPU)
    resumed.load(state)
    steps = list(resumed.run())

    assert steps[0].env_steps == 1136
    for index, metrics in steps[-1].measured.items():
        assert {k: v for k, v in metrics.items() if "time/" not in k} == {k: v for k, v in expected[index].items() if "time/" not in k}
    for name in ("newest", "target", "average"):
        assert torch.equal(getattr(resumed.learner, name), getattr(whole.learner, name)), name
    assert torch.equal(resumed.best(), whole.best())


def test_a_member_whose_values_are_not_numbers_ends_and_the_others_go_on():
    sick = replace(MEMBER, lr=1e38)
    healthy = [replace(MEMBER, seed=1), replace(MEMBER, seed=2, agent="sarsa", policy="softmax")]
    training = VectorisedTraining([healthy[0], sick, healthy[1]], settings(), CPU)
    *_, last = training.run()

    assert list(last.diverged) == [1]
    assert "not numbers" in last.diverged[1]
    assert set(last.measured) == {0, 2}
    assert last.env_steps == 1600
    beside = VectorisedTraining([healthy[0], replace(MEMBER, seed=5), healthy[1]], settings(), CPU)
    list(beside.run())
    for index in (0, 2):
        assert torch.equal(training.learner.newest[index], beside.learner.newest[index])


def test_a_stack_whose_members_have_all_diverged_ends_early():
    *_, last = VectorisedTraining([replace(MEMBER, lr=1e38)], settings(env_steps=16000), CPU).run()
    assert last.env_steps < 16000
    assert list(last.diverged) == [0]


def test_it_learns():
    """Far from solved (475), but further than the 20 or so of chance, and the 100 of leaning one way."""
    chosen = settings(
        env_steps=9600, updates=2, batch_size=64, hidden=(64,), replay_size=16000, evaluate_every=1600, evaluation_episodes=20
    )
    training = VectorisedTraining([replace(item, lr=1e-2, gamma=0.99, temperature=0.025, alpha=1.0) for item in members(2)], chosen, CPU)
    list(training.run())
    returns = training.greedy(range(8), training.best(), "test")
    assert sorted(returns.values())[4] > 150, returns


def test_no_two_evaluations_share_their_episodes_and_none_has_the_tests(monkeypatch):
    asked = []
    judge = training_module.greedy_returns
    monkeypatch.setattr(
        training_module, "greedy_returns", lambda v, e, s, purpose, n, d: asked.append(purpose) or judge(v, e, s, purpose, n, d)
    )
    training = VectorisedTraining([MEMBER], settings(environment="CartPole-v0", evaluate_every=160), CPU)
    list(training.run())
    training.greedy([0], training.best(), "test")
    assert len(asked) >= 12
    assert len(set(asked)) == len(asked)


def test_another_purpose_is_other_episodes_and_the_same_one_the_same():
    training = VectorisedTraining([MEMBER], settings(), CPU)
    list(training.run())
    once, again, other = (training.greedy([0], training.best(), purpose) for purpose in ("test", "test", "val 800"))
    assert once == again
    assert once != other


def test_the_time_limit_is_stored_as_no_failure_with_the_state_it_really_ended_in():
    sampler = local_sampler(VectorisedAgents([MEMBER], CPU), settings(), 0, 16)
    upright = torch.zeros(4, 1, 16, dtype=torch.float64)
    upright[2, 0, 8:] = 0.3  # already fallen
    late = EnvState(upright, torch.full((1, 16), 499))
    rollout = sampler.sample(QLearner(VectorisedAgents([MEMBER], CPU), sampler._network, settings()).newest, late, 0, 1)
    batch = TransitionBatch(rollout.rows.flatten(1, 2), 4)
    assert batch.terminated.tolist() == [[0.0] * 8 + [1.0] * 8]
    assert rollout.ended[:, 3].tolist() == [500] * 16
    assert (batch.next_observations[0, 2, 8:] > 1).all(), "where it fell, not where the next episode starts"
    assert (batch.next_observations[0, 1].abs() > 0.05).all(), "pushed, not at rest as the next episode starts"
    assert (rollout.state.steps == 0).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gamma": 1.0}, "gamma: must be from 0 to below 1"),
        ({"alpha": 0.0}, "alpha: must be above 0"),
        ({"lr": float("nan")}, "lr: must be above 0"),
        ({"temperature": 0.0, "policy": "softmax"}, "temperature: must be above 0"),
        ({"epsilon_start": 1.5}, "start: must be from 0 to 1"),
        ({"policy": "greedy"}, "policy: 'greedy' is unknown"),
        ({"agent": "ppo"}, "agent: 'ppo' is unknown"),
    ],
)
def test_a_member_out_of_range_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        VectorisedAgents([replace(MEMBER, **changed)], CPU)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_env_runners": 17}, "num_env_runners: must be from 0 to the 16 environments"),
        ({"runner_timeout_s": 5.0}, "runner_timeout_s: is for runners that are processes, and num_env_runners is 0"),
        ({"replay_size": 8}, "replay_size: must hold one rollout, 16 transitions"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        settings(**changed)


def test_a_stack_has_members():
    with pytest.raises(ValueError, match="members: none"):
        VectorisedAgents([], CPU)
