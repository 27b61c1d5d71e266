"""Tables of action values: boxes and one-step updates, computed by hand."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from ddl.rl import training as training_module
from ddl.rl.environments import EnvState
from ddl.rl.settings import TableSettings
from ddl.rl.tables import BOXES, TableTraining, boxes
from tests.tasks.steps import without_times

from .agents import AGENT

CPU = torch.device("cpu")

SETTINGS = TableSettings(
    environment="CartPole-v1", optimistic=False, envs=1, env_steps=640, evaluate_every=320, evaluation_episodes=4, alpha_end=1.0
)


def state(*physics: float) -> EnvState:
    return EnvState(torch.tensor(physics, dtype=torch.float64).view(4, 1, 1), torch.zeros(1, 1, dtype=torch.int64))


def training(*agents, **changed) -> TableTraining:
    return TableTraining(agents, replace(SETTINGS, **changed), CPU)


def test_the_boxes_are_the_162_of_1983():
    assert BOXES == 162
    degrees = math.radians
    assert boxes(state(-1.0, -1.0, degrees(-7), degrees(-60))).item() == 0
    assert boxes(state(1.0, 1.0, degrees(7), degrees(60))).item() == 161
    assert boxes(state(0.0, 0.0, degrees(0.5), 0.0)).item() == ((1 * 3 + 1) * 6 + 3) * 3 + 1


@pytest.mark.parametrize("agent", ["q_learning", "sarsa"])
def test_an_update_is_the_equation(agent):
    random_agent = replace(AGENT, agent=agent, policy="epsilon_greedy", epsilon_start=1.0, epsilon_end=1.0, alpha=0.5, gamma=0.9)
    made = training(random_agent, envs=6)
    next(made.run())
    made.table = torch.arange(BOXES * 2, dtype=torch.float32).view(1, BOXES, 2).clone()
    before, boxes_before, actions = made.table[0].clone(), boxes(made._env_state)[0].tolist(), made._actions[0].tolist()
    made._advance()
    boxes_after, next_actions = boxes(made._env_state)[0].tolist(), made._actions[0].tolist()
    changes: dict[tuple[int, int], list[float]] = {}
    for cell, next_box, next_action in zip(zip(boxes_before, actions, strict=True), boxes_after, next_actions, strict=True):
        following = before[next_box].max() if agent == "q_learning" else before[next_box, next_action]
        changes.setdefault(cell, []).append((0.5 * (1 + 0.9 * following - before[cell])).item())
    expected = before.clone()
    for cell, found in changes.items():
        expected[cell] += sum(found) / len(found)
    assert len(changes) > 1
    torch.testing.assert_close(made.table[0], expected)


def test_vectorised_tables_equal_tables_of_single_agents():
    made = [
        replace(AGENT, seed=s, agent=a, policy=p, alpha=0.3) for s, a, p in [(0, "sarsa", "softmax"), (1, "q_learning", "epsilon_greedy")]
    ]
    together = training(*made, envs=8)
    vectorised = list(together.run())
    for index, settings in enumerate(made):
        alone = training(settings, envs=8)
        metrics = list(alone.run())[-1].measured[0]
        assert torch.equal(alone.table[0], together.table[index])
        assert without_times(metrics) == without_times(vectorised[-1].measured[index])


def test_a_resumed_training_equals_an_uninterrupted_one():
    whole, state_ = training(AGENT, envs=8), None
    for step in whole.run():
        if step.env_steps == 240:
            state_ = copy.deepcopy(step.state(0))
    resumed = training(AGENT, envs=8)
    resumed.load([state_])
    list(resumed.run())
    assert torch.equal(resumed.table, whole.table)
    assert torch.equal(resumed.best(), whole.best())


def test_every_episode_is_counted_once_however_rarely_the_device_is_read(monkeypatch):
    found = []
    for every in (1, 7, 100):
        monkeypatch.setattr(training_module, "CHECK_EVERY", every)
        made = training(AGENT, replace(AGENT, seed=1), envs=8, env_steps=3200, evaluate_every=3200)
        list(made.run())
        found.append([(score.episodes, list(score.recent)) for score in made.scores])
    assert found[0] == found[1] == found[2]
    assert all(episodes > 50 for episodes, _ in found[0])


def test_it_learns():
    made = [replace(AGENT, seed=s, alpha=0.2, epsilon_start=0.3, epsilon_end=0.0, epsilon_decay_steps=20000) for s in range(4)]
    trained = training(*made, envs=16, env_steps=48000, evaluate_every=16000, evaluation_episodes=20, optimistic=True, alpha_end=0.1)
    list(trained.run())
    assert sorted(trained.greedy(range(4), trained.best(), "test").values())[1] > 100
