"""Equations 2 to 5, computed by hand, and the replay buffer."""

import pytest
import torch

from ddl.rl import update_rules
from ddl.rl.replay import ReplayBuffer, TransitionBatch, transition_rows
from ddl.rl.update_rules import QLearning, Sarsa, td_target

NEXT = torch.tensor([[[3.0, 1.0], [2.0, 5.0]]])
"""Values of both actions in two next states [1, 2, 2]: the best are 3 and 5."""


def column(*given: float) -> torch.Tensor:
    return torch.tensor([given])


def test_q_learning_bootstraps_from_the_best_action():
    assert QLearning().bootstrap(NEXT, torch.full((1, 2, 2), 0.5), torch.rand(1, 2)).tolist() == [[3.0, 5.0]]


def test_sarsa_bootstraps_from_an_action_of_the_policy():
    chances = torch.tensor([[[0.25, 0.25], [0.75, 0.75]]])
    assert Sarsa().bootstrap(NEXT, chances, column(0.2, 0.2)).tolist() == [[3.0, 1.0]], "the first action"
    assert Sarsa().bootstrap(NEXT, chances, column(0.3, 0.3)).tolist() == [[2.0, 5.0]], "the second"


def test_with_alpha_one_the_target_is_equation_4_and_5():
    # r + gamma max Q = 1 + 0.9 * 5
    assert td_target(column(1.0), column(0.0), column(5.0), 0.9, column(2.0), 1.0).item() == pytest.approx(5.5)


def test_with_alpha_below_one_it_is_equation_2_and_3():
    # Q + alpha (r + gamma max Q - Q) = 2 + 0.1 * (1 + 0.9 * 5 - 2)
    assert td_target(column(1.0), column(0.0), column(5.0), 0.9, column(2.0), 0.1).item() == pytest.approx(2.35)


def test_a_terminated_step_does_not_bootstrap():
    assert td_target(column(1.0), column(1.0), column(5.0), 0.9, column(2.0), 1.0).item() == pytest.approx(1.0)


def test_mixed_agents_have_their_own_update_rules():
    mixed = update_rules.rule_for_agents(["sarsa", "q_learning"], torch.device("cpu"))
    values = NEXT.expand(2, 2, 2)
    worst = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(2, 2, 2)
    assert mixed.bootstrap(values, worst, torch.full((2, 2), 0.5)).tolist() == [[2.0, 1.0], [3.0, 5.0]]


def test_an_unknown_agent_is_rejected():
    with pytest.raises(ValueError, match="agent: 'dqn' is unknown"):
        update_rules.rule_for_agents(["q_learning", "dqn"], torch.device("cpu"))


def test_a_replayed_transition_equals_the_stored_one():
    replay = ReplayBuffer(2, 5, 4, torch.device("cpu"))
    seen, following = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    actions, terminated = torch.tensor([[0, 1, 0], [1, 1, 0]]), torch.tensor([[False, True, False], [False, False, True]])
    replay.add(transition_rows(seen, following, actions, terminated))
    batch = replay.sample(torch.tensor([[0.99, 0.5], [0.0, 0.4]]))
    for agent, items in enumerate([[2, 1], [0, 1]]):
        assert torch.equal(batch.observations[agent], seen[agent][:, items])
        assert torch.equal(batch.next_observations[agent], following[agent][:, items])
        assert torch.equal(batch.actions[agent], actions[agent, items])
        assert batch.rewards[agent].tolist() == [1.0, 1.0]
        assert torch.equal(batch.terminated[agent].bool(), terminated[agent, items])


def test_the_oldest_transitions_are_replaced():
    replay = ReplayBuffer(1, 5, 1, torch.device("cpu"))
    for first in (0, 3):
        numbers = torch.arange(first, first + 3).float().view(1, 1, 3)
        replay.add(transition_rows(numbers, numbers, torch.zeros(1, 3), torch.zeros(1, 3)))
    assert len(replay) == 5
    everything = replay.sample((torch.arange(5) + 0.5).view(1, 5) / 5)
    assert isinstance(everything, TransitionBatch)
    assert sorted(everything.observations.flatten().tolist()) == [1, 2, 3, 4, 5]
