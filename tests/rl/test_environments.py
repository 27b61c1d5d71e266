"""The batched CartPole compared with gymnasium's, and the environments that are rejected."""

import re

import gymnasium
import numpy as np
import pytest
import torch

from ddl.rl.environment_names import ENVIRONMENTS
from ddl.rl.environments import ORDER_ONE, EnvState, find_environment

CARTPOLE = find_environment("CartPole-v1")


def test_every_step_equals_gymnasiums():
    single = gymnasium.make("CartPole-v1", disable_env_checker=True)
    single.reset()
    steps = 0
    generator = np.random.default_rng(0)
    for episode in range(30):
        single.reset(seed=episode)
        ours = EnvState(torch.tensor(single.unwrapped.state, dtype=torch.float64).view(4, 1, 1), torch.zeros(1, 1, dtype=torch.int64))
        over = False
        while not over:
            # Pushing against the fall, with some noise, gives long episodes.
            action = int(single.unwrapped.state[2] + 0.3 * single.unwrapped.state[3] + 0.02 * generator.normal() > 0)
            _, reward, terminated, truncated, _ = single.step(action)
            ours, failed, late = CARTPOLE.step(ours, torch.tensor([[action]]))
            np.testing.assert_allclose(ours.physics.flatten().numpy(), single.unwrapped.state, rtol=0, atol=1e-13)
            # Each step begins at Gymnasium's state: a falling pole doubles a rounding error every few steps.
            ours = EnvState(torch.tensor(single.unwrapped.state, dtype=torch.float64).view(4, 1, 1), ours.steps)
            assert (failed.item(), late.item(), 1.0) == (terminated, truncated, reward)
            over, steps = terminated or truncated, steps + 1
    single.close()
    assert steps > 1500


def test_every_step_equals_gymnasiums_vector_environment():
    theirs = gymnasium.make_vec("CartPole-v1", num_envs=64, vectorization_mode="vector_entry_point")
    theirs.reset(seed=1)
    state = EnvState(torch.tensor(theirs.state).unsqueeze(1), torch.zeros(1, 64, dtype=torch.int64))
    generator, seen = torch.Generator().manual_seed(0), 0
    fresh = np.zeros(64, dtype=bool)
    for _ in range(300):
        actions = torch.randint(0, 2, (1, 64), generator=generator)
        observed, _, terminated, truncated, _ = theirs.step(actions[0].numpy())
        before = state
        state, failed, late = CARTPOLE.step(before, actions)
        # Gymnasium restarts one step later, in a step that does not count.
        there = torch.tensor(theirs.state).unsqueeze(1)
        same = ~fresh
        torch.testing.assert_close(state.physics[..., same], there[..., same], rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            (CARTPOLE.observe(state)[0] / torch.tensor(ORDER_ONE).view(4, 1)).T[same].numpy(), observed[same], rtol=1e-6, atol=1e-6
        )
        assert (failed[0].numpy() == terminated)[same].all()
        assert (late[0].numpy() == truncated)[same].all()
        seen += int(same.sum())
        state = EnvState(there.clone(), torch.where(torch.tensor(fresh), 0, state.steps))
        fresh = terminated | truncated
    theirs.close()
    assert seen > 15000


def test_an_episode_is_truncated_at_the_limit_and_not_before():
    state = EnvState(torch.zeros(4, 1, 1, dtype=torch.float64), torch.tensor([[498]]))
    state, terminated, truncated = CARTPOLE.step(state, torch.ones(1, 1, dtype=torch.int64))
    assert (terminated.item(), truncated.item()) == (False, False)
    _, terminated, truncated = CARTPOLE.step(state, torch.zeros(1, 1, dtype=torch.int64))
    assert (terminated.item(), truncated.item()) == (False, True)


def test_restart_changes_ended_episodes_only():
    state = EnvState(torch.full((4, 1, 3), 0.7, dtype=torch.float64), torch.full((1, 3), 9))
    state = CARTPOLE.restart(state, torch.tensor([[False, True, False]]), torch.rand(1, 12))
    assert state.steps.tolist() == [[9, 0, 9]]
    assert (state.physics[:, 0, [0, 2]] == 0.7).all()
    assert (state.physics[:, 0, 1].abs() <= 0.05).all()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_limits_and_thresholds_are_gymnasiums(name):
    spec, environment = gymnasium.spec(name), find_environment(name)
    assert (environment.step_limit, environment.solved_return) == (spec.max_episode_steps, spec.reward_threshold)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pendulum-v1", "Pendulum-v1 has continuous actions"),
        ("MountainCarContinuous-v0", "MountainCarContinuous-v0 has continuous actions"),
        ("Acrobot-v1", "Acrobot-v1 has no batched implementation. Use CartPole-v0 or CartPole-v1."),
        ("CartPoleish-v1", "gymnasium cannot make 'CartPoleish-v1'"),
        ("", "gymnasium cannot make ''"),
    ],
)
def test_an_unsupported_environment_is_rejected_by_name(name, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        find_environment(name)
