"""Training: vectorised equals separate, resumed equals uninterrupted, and a diverged agent does not affect the others."""

import copy
from dataclasses import replace

import pytest
import torch

from ddl.rl import training as training_module
from ddl.rl import vectorised_training
from ddl.rl.env_runners import make_sampler
from ddl.rl.environments import EnvState, find_environment
from ddl.rl.learner import QLearner
from ddl.rl.replay import TransitionBatch
from ddl.rl.rllib import latest_return
from ddl.rl.vectorised_agents import VectorisedAgents
from ddl.rl.vectorised_training import VectorisedTraining
from tests.tasks.steps import without_times

from .agents import AGENT, agents, settings

CPU = torch.device("cpu")


def measured(training: VectorisedTraining) -> dict[int, list[dict[str, float]]]:
    """Metrics of each agent, without times."""
    found: dict[int, list[dict[str, float]]] = {index: [] for index in range(len(training.agents))}
    for step in training.run():
        for index, metrics in step.measured.items():
            found[index].append(without_times(metrics))
    return found


def test_one_of_32_agents_trains_as_it_does_alone():
    together = VectorisedTraining(agents(8), settings(), CPU)
    vectorised = measured(together)
    for index in (0, 5, 18, 31):
        alone = VectorisedTraining([agents(8)[index]], settings(), CPU)
        assert measured(alone)[0] == vectorised[index]
        assert torch.equal(alone.learner.newest[0], together.learner.newest[index])
    returns = {tuple(metrics["train/episode_return"] for metrics in found[1:]) for found in vectorised.values()}
    assert len(returns) == 32, "no two agents have the same episodes"


def test_a_resumed_training_equals_an_uninterrupted_one():
    whole = VectorisedTraining(agents(1), settings(), CPU)
    expected, states = {}, None
    for step in whole.run():
        if step.env_steps == 1120:
            states = copy.deepcopy([step.state(agent) for agent in range(4)])
        if step.env_steps > 1120 and step.measured:
            expected = step.measured
    resumed = VectorisedTraining(agents(1), settings(), CPU)
    resumed.load(states)
    steps = list(resumed.run())

    assert steps[0].env_steps == 1136
    for index, metrics in steps[-1].measured.items():
        assert without_times(metrics) == without_times(expected[index])
    for name in ("newest", "target", "average"):
        assert torch.equal(getattr(resumed.learner, name), getattr(whole.learner, name)), name
    assert torch.equal(resumed.best(), whole.best())


def test_states_of_different_steps_are_rejected():
    made = VectorisedTraining(agents(1)[:2], settings(), CPU)
    first, *_, last = (copy.deepcopy(step.state(0)) for step in made.run())
    with pytest.raises(ValueError, match=r"states of the same step only, not of \[0, 1600\] env steps"):
        made.load([first, last])


def test_every_episode_is_counted_once_however_rarely_the_device_is_read(monkeypatch):
    found = []
    for every in (1, 7, 100):
        for module in (training_module, vectorised_training):
            monkeypatch.setattr(module, "CHECK_EVERY", every)
        made = VectorisedTraining(agents(1), settings(evaluate_every=1600), CPU)
        *_, last = made.run()
        found.append([(score.episodes, list(score.recent), without_times(last.measured[i])) for i, score in enumerate(made.scores)])
    assert found[0] == found[1] == found[2]
    assert all(episodes > 20 for episodes, *_ in found[0])


def test_a_state_has_the_episodes_that_have_ended():
    made, episodes = VectorisedTraining([AGENT], settings(evaluate_every=1600), CPU), []
    counted = made._collect
    made._collect = lambda lengths: episodes.append((lengths > 0).sum().item()) or counted(lengths)
    for step in made.run():
        if step.env_steps == 800:
            assert step.state(0)["scores"][0]["episodes"] == sum(episodes) > 10
            break


def test_an_agent_whose_values_are_not_finite_ends_and_the_others_continue():
    sick = replace(AGENT, lr=1e38)
    healthy = [replace(AGENT, seed=1), replace(AGENT, seed=2, agent="sarsa", policy="softmax")]
    training = VectorisedTraining([healthy[0], sick, healthy[1]], settings(), CPU)
    *_, last = training.run()

    assert list(last.diverged) == [1]
    assert "not finite" in last.diverged[1]
    assert set(last.measured) == {0, 2}
    assert last.env_steps == 1600
    expected = VectorisedTraining([healthy[0], replace(AGENT, seed=5), healthy[1]], settings(), CPU)
    list(expected.run())
    for index in (0, 2):
        assert torch.equal(training.learner.newest[index], expected.learner.newest[index])


def test_training_ends_early_once_all_agents_have_diverged():
    *_, last = VectorisedTraining([replace(AGENT, lr=1e38)], settings(env_steps=16000), CPU).run()
    assert last.env_steps < 16000
    assert list(last.diverged) == [0]


def test_it_learns():
    """The return is far from solved (475), but above that of random actions (about 20) and of one constant rule (100)."""
    chosen = settings(
        env_steps=9600, updates=2, batch_size=64, hidden=(64,), replay_size=16000, evaluate_every=1600, evaluation_episodes=20
    )
    training = VectorisedTraining([replace(item, lr=1e-2, gamma=0.99, temperature=0.025, alpha=1.0) for item in agents(2)], chosen, CPU)
    list(training.run())
    returns = training.greedy(range(8), training.best(), "test")
    assert sorted(returns.values())[4] > 150, returns


def test_every_evaluation_and_the_test_have_different_episodes(monkeypatch):
    purposes = []
    original = training_module.greedy_returns
    monkeypatch.setattr(
        training_module, "greedy_returns", lambda v, e, s, purpose, n, d: purposes.append(purpose) or original(v, e, s, purpose, n, d)
    )
    training = VectorisedTraining([AGENT], settings(environment="CartPole-v0", evaluate_every=160), CPU)
    list(training.run())
    training.greedy([0], training.best(), "test")
    assert len(purposes) >= 12
    assert len(set(purposes)) == len(purposes)


def test_the_purpose_determines_the_episodes():
    training = VectorisedTraining([AGENT], settings(), CPU)
    list(training.run())
    once, again, other = (training.greedy([0], training.best(), purpose) for purpose in ("test", "test", "val 800"))
    assert once == again
    assert once != other


def test_a_truncated_step_is_stored_as_not_terminated_with_the_last_state_of_its_episode():
    sampler = make_sampler(VectorisedAgents([AGENT], CPU), settings(), find_environment("CartPole-v1"))
    upright = torch.zeros(4, 1, 16, dtype=torch.float64)
    upright[2, 0, 8:] = 0.3  # already fallen
    late = EnvState(upright, torch.full((1, 16), 499))
    rollout = sampler.sample(QLearner(VectorisedAgents([AGENT], CPU), sampler._network, settings()).newest, late, 0, 1)
    batch = TransitionBatch(rollout.rows.flatten(1, 2), 4)
    assert batch.terminated.tolist() == [[0.0] * 8 + [1.0] * 8]
    assert rollout.lengths.tolist() == [[[500] * 16]]
    assert (batch.next_observations[0, 2, 8:] > 1).all(), "the state after the fall, not the start of the next episode"
    assert (batch.next_observations[0, 1].abs() > 0.05).all(), "after a push, unlike the start of the next episode"
    assert (rollout.state.steps == 0).all()


@pytest.mark.parametrize(
    ("changed", "message"),
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
def test_an_agent_out_of_range_is_rejected(changed, message):
    with pytest.raises(ValueError, match=message):
        VectorisedAgents([replace(AGENT, **changed)], CPU)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_env_runners": 17}, "num_env_runners: 17 runners cannot share 16 environments"),
        ({"runner_timeout_s": 5.0}, "runner_timeout_s: there are no runners to time: num_env_runners is 0"),
        ({"replay_size": 8}, "replay_size: must hold one rollout, 16 transitions"),
    ],
)
def test_settings_that_contradict_each_other_are_rejected(changed, message):
    with pytest.raises(ValueError, match=message):
        settings(**changed)


def test_no_agents_are_rejected():
    with pytest.raises(ValueError, match="agents: the list is empty"):
        VectorisedAgents([], CPU)


def test_an_rllib_iteration_in_which_no_episode_ends_has_not_diverged():
    """RLlib's mean over no episode is NaN."""
    assert latest_return({"episode_return_mean": 205.0}, 42.0) == 205.0
    assert latest_return({"episode_return_mean": float("nan")}, 205.0) == 205.0
    assert latest_return({}, None) is None
