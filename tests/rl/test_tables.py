"""The textbook form: boxes and one-step updates, by hand."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from ddl.rl.environments import ENVIRONMENTS, EnvState
from ddl.rl.tables import BOXES, TableTraining, boxes

from .stacks import MEMBER

CPU = torch.device("cpu")
CARTPOLE = ENVIRONMENTS["CartPole-v1"]


def state(*physics: float) -> EnvState:
    return EnvState(torch.tensor(physics, dtype=torch.float64).view(4, 1, 1), torch.zeros(1, 1, dtype=torch.int64))


def training(*members, envs: int = 1, env_steps: int = 640, **changed) -> TableTraining:
    wanted = {"evaluate_every": 320, "episodes": 4, "alpha_end": 1.0, "optimistic": False, "device": CPU} | changed
    return TableTraining(list(members), CARTPOLE, envs, env_steps, **wanted)


def test_the_boxes_are_the_162_of_1983():
    assert BOXES == 162
    degrees = math.radians
    assert boxes(state(-1.0, -1.0, degrees(-7), degrees(-60))).item() == 0
    assert boxes(state(1.0, 1.0, degrees(7), degrees(60))).item() == 161
    assert boxes(state(0.0, 0.0, degrees(0.5), 0.0)).item() == ((1 * 3 + 1) * 6 + 3) * 3 + 1


@pytest.mark.parametrize("agent", ["q_learning", "sarsa"])
def test_an_update_is_the_equation(agent):
    member = replace(MEMBER, agent=agent, policy="epsilon_greedy", epsilon_start=1.0, epsilon_end=1.0, alpha=0.5, gamma=0.9)
    made = training(member, envs=6)
    next(made.run())
    made.table = torch.arange(BOXES * 2, dtype=torch.float32).view(1, BOXES, 2).clone()
    before, here, actions = made.table[0].clone(), boxes(made._env_state)[0].tolist(), made._actions[0].tolist()
    made._step()
    there, taken = boxes(made._env_state)[0].tolist(), made._actions[0].tolist()
    changes: dict[tuple[int, int], list[float]] = {}
    for cell, next_box, next_action in zip(zip(here, actions, strict=True), there, taken, strict=True):
        following = before[next_box].max() if agent == "q_learning" else before[next_box, next_action]
        changes.setdefault(cell, []).append((0.5 * (1 + 0.9 * following - before[cell])).item())
    expected = before.clone()
    for cell, found in changes.items():
        expected[cell] += sum(found) / len(found)
    assert len(changes) > 1
    torch.testing.assert_close(made.table[0], expected)


def test_stacked_tables_are_those_of_members_alone():
    made = [
        replace(MEMBER, seed=s, agent=a, policy=p, alpha=0.3) for s, a, p in [(0, "sarsa", "softmax"), (1, "q_learning", "epsilon_greedy")]
    ]
    together = training(*made, envs=8)
    stacked = list(together.run())
    for index, member in enumerate(made):
        alone = training(member, envs=8)
        metrics = list(alone.run())[-1].measured[0]
        assert torch.equal(alone.table[0], together.table[index])
        assert {k: v for k, v in metrics.items() if "time/" not in k} == {
            k: v for k, v in stacked[-1].measured[index].items() if "time/" not in k
        }


def test_resuming_equals_never_stopping():
    whole, state_ = training(MEMBER, envs=8), None
    for step in whole.run():
        if step.env_steps == 240:
            state_ = copy.deepcopy(step.state())
    resumed = training(MEMBER, envs=8)
    resumed.load(state_)
    list(resumed.run())
    assert torch.equal(resumed.table, whole.table)
    assert torch.equal(resumed.best(), whole.best())


def test_it_learns():
    made = [replace(MEMBER, seed=s, alpha=0.2, epsilon_start=0.3, epsilon_end=0.0, epsilon_decay_steps=20000) for s in range(4)]
    trained = training(*made, envs=16, env_steps=48000, evaluate_every=16000, episodes=20, optimistic=True, alpha_end=0.1)
    list(trained.run())
    assert sorted(trained.greedy(trained.best(), "test"))[1] > 100
