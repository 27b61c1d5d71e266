"""Probabilities compared with equation 6 and the definition of epsilon-greedy, computed by hand."""

import math

import pytest
import torch

from ddl.rl import policies
from ddl.rl.policies import EpsilonGreedy, Softmax, choose, greedy, largest


def values(*given: float) -> torch.Tensor:
    """[1, actions, 1]"""
    return torch.tensor(given).view(1, -1, 1)


def test_softmax_is_equation_6():
    found = Softmax(0.025).probabilities(values(1.00, 1.01, 0.95), 0).flatten()
    weights = [math.exp(q / 0.025) for q in (1.00, 1.01, 0.95)]
    assert found.tolist() == pytest.approx([w / sum(weights) for w in weights], rel=1e-4)
    # By hand, relative to the first: e^0, e^0.4 and e^-2.
    assert found.tolist() == pytest.approx([1 / 2.62716, 1.49182 / 2.62716, 0.13534 / 2.62716], rel=1e-4)


def test_softmax_at_the_studys_temperature_does_not_overflow_at_cartpoles_values():
    found = Softmax(0.025).probabilities(values(99.0, 100.0), 0)
    assert found.flatten().tolist() == pytest.approx([math.exp(-40), 1.0])


def test_a_higher_temperature_is_more_even():
    probabilities = [Softmax(t).probabilities(values(0.0, 1.0), 0)[0, 1, 0].item() for t in (0.025, 0.25, 2.5, 25.0)]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[0] == pytest.approx(1.0)
    assert probabilities[-1] == pytest.approx(0.51, abs=1e-3)


def test_epsilon_greedy_by_hand():
    found = EpsilonGreedy(0.3, 0.3, 1).probabilities(values(1.0, 5.0, 2.0), 0)
    assert found.flatten().tolist() == pytest.approx([0.1, 0.8, 0.1])


def test_epsilon_greedy_divides_the_probability_among_equal_actions():
    found = EpsilonGreedy(0.3, 0.3, 1).probabilities(values(5.0, 5.0, 2.0), 0)
    assert found.flatten().tolist() == pytest.approx([0.45, 0.45, 0.1])


def test_epsilon_falls_linearly_and_then_stays():
    policy = EpsilonGreedy(1.0, 0.1, 90)
    assert [policy.epsilon(steps).item() for steps in (0, 45, 90, 1000)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_each_agent_has_its_own_parameters():
    q = torch.tensor([0.0, 1.0]).view(1, 2, 1).expand(3, 2, 1)
    soft = Softmax(torch.tensor([0.5, 1.0, 2.0]).view(-1, 1, 1)).probabilities(q, 0)[:, 1, 0]
    assert soft.tolist() == pytest.approx([1 / (1 + math.exp(-1 / t)) for t in (0.5, 1.0, 2.0)])
    epsilon = EpsilonGreedy(*(torch.tensor(x).view(-1, 1, 1) for x in ([1.0, 0.5, 0.0], [0.0, 0.5, 0.0], [10.0, 10.0, 10.0])))
    assert epsilon.probabilities(q, 5)[:, 1, 0].tolist() == pytest.approx([0.75, 0.75, 1.0])


def test_mixed_agents_have_their_own_policies():
    q = torch.tensor([0.0, 1.0]).view(1, 2, 1).expand(2, 2, 1)
    mixed = policies.policy_for_agents(["softmax", "epsilon_greedy"], EpsilonGreedy(0.2, 0.2, 1), Softmax(1.0), torch.device("cpu"))
    assert mixed.probabilities(q, 0)[:, 1, 0].tolist() == pytest.approx([1 / (1 + math.exp(-1)), 0.9])


def test_actions_are_sampled_in_proportion_to_their_probabilities():
    chances = torch.tensor([0.2, 0.5, 0.3])
    uniforms = (torch.arange(1000) + 0.5) / 1000
    actions = choose(chances.view(1, 3, 1).expand(1, 3, 1000), uniforms.view(1, -1))
    assert actions.flatten().bincount(minlength=3).tolist() == [200, 500, 300]


def test_probabilities_that_are_not_numbers_choose_the_first_action():
    assert choose(torch.full((1, 2, 4), math.nan), torch.rand(1, 4)).tolist() == [[0, 0, 0, 0]]


def test_the_best_action_and_its_value_are_argmax_and_amax():
    q = torch.randn(5, 4, 50)
    q[0] = 0.0  # all equal: the first action
    assert torch.equal(greedy(q), q.argmax(1))
    assert torch.equal(largest(q), q.amax(1))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_out_of_range_is_rejected(temperature):
    with pytest.raises(ValueError, match=r"^temperature: must be above 0 and finite"):
        Softmax(temperature)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((1.1, 0.0, 1), "start: must be from 0 to 1"), ((1.0, -0.1, 1), "end: must be from 0 to 1"), ((1.0, 0.0, 0), "decay_steps: must be")],
)
def test_an_epsilon_out_of_range_is_rejected(numbers, message):
    with pytest.raises(ValueError, match=message):
        EpsilonGreedy(*numbers)


def test_an_unknown_policy_is_rejected():
    with pytest.raises(ValueError, match="policy: 'boltzman' is unknown"):
        policies.policy_for_agents(["boltzman"], EpsilonGreedy(1.0, 0.0, 1), Softmax(1.0), torch.device("cpu"))
