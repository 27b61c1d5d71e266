"""The update of the networks compared with autograd and torch's Adam."""

from dataclasses import replace

import pytest
import torch

from ddl.rl.draws import BLOCK, UniformDraws
from ddl.rl.env_runners import make_network
from ddl.rl.learner import QLearner
from ddl.rl.networks import VectorisedQNetwork
from ddl.rl.replay import TransitionBatch, transition_rows
from ddl.rl.vectorised_agents import VectorisedAgents

from .agents import AGENT, agents, settings

CPU = torch.device("cpu")


def batch(count: int, items: int, terminated: bool = False) -> TransitionBatch:
    seen, following = torch.randn(count, 4, items), torch.randn(count, 4, items)
    return TransitionBatch(transition_rows(seen, following, torch.randint(0, 2, (count, items)), torch.full((count, items), terminated)), 4)


def test_the_written_out_gradient_equals_autograds():
    network = VectorisedQNetwork(4, [8, 6], 3, torch.full((2, 1, 1), 50.0), True)
    flat = torch.randn(2, network.parameters_per_agent)
    observations, weights = torch.randn(2, 4, 10), torch.randn(2, 3, 10)
    followed = flat.clone().requires_grad_()
    (network.activations(network.layers(followed), observations)[-1] * weights).sum().backward()
    ours = torch.zeros_like(flat)
    layers = network.layers(flat)
    network.gradient(layers, network.activations(layers, observations), weights, network.layers(ours))
    torch.testing.assert_close(ours, followed.grad, rtol=1e-4, atol=1e-4)


def test_ten_updates_equal_autograd_with_torchs_adam():
    chosen = settings(hidden=(8,), target_rate=1.0, lr_end=1.0)
    vectorised = VectorisedAgents([AGENT], CPU)
    network = make_network(vectorised, chosen)
    learner = QLearner(vectorised, network, chosen)
    peer = learner.newest.clone().requires_grad_()
    adam = torch.optim.Adam([peer], lr=AGENT.lr)
    for step in range(10):
        seen = batch(1, 16, terminated=step % 2 == 0)
        with torch.no_grad():
            following = network.values(network.layers(peer), seen.next_observations).amax(1)
            aim = (seen.rewards + 0.99 * (1 - seen.terminated) * following).clamp(0, 100)
        taken = network.values(network.layers(peer), seen.observations).gather(1, seen.actions.unsqueeze(1)).squeeze(1)
        adam.zero_grad()
        (((taken - aim) / 100).square().mean() / 2).backward()
        adam.step()
        learner.step(seen, torch.rand(1, 16), env_steps=0)
    torch.testing.assert_close(learner.newest, peer.detach(), rtol=1e-3, atol=1e-5)


def test_a_truncated_step_still_bootstraps_and_a_terminated_one_does_not():
    errors = {}
    for terminated in (False, True):
        vectorised = VectorisedAgents([replace(AGENT, gamma=0.9)], CPU)
        learner = QLearner(vectorised, make_network(vectorised, settings()), settings())
        # Values start at 1 / (1 - gamma) = 10. Bootstrapped: 1 + 0.9 * 10 = 10, no error. After a failure 1: off by 9.
        errors[terminated] = learner.step(batch(1, 8, terminated), torch.rand(1, 8), 0).item()
    assert errors[False] == pytest.approx(0.0, abs=1e-4)
    assert errors[True] == pytest.approx(9.0, abs=1e-4)


def test_values_start_at_the_highest_possible_value_or_at_zero():
    vectorised = VectorisedAgents(agents(2), CPU)
    for optimistic in (True, False):
        network = make_network(vectorised, settings(optimistic=optimistic))
        found = network.values(network.layers(network.initial(vectorised.seeds)), torch.randn(8, 4, 3))
        most = vectorised.value_scale.expand_as(found) if optimistic else torch.zeros_like(found)
        torch.testing.assert_close(found, most)


def test_the_learning_rate_decays_and_differs_between_agents():
    made = [replace(AGENT, lr=lr) for lr in (1e-2, 1e-3)]
    moved = []
    for env_steps in (0, 1600, 2048):  # the last rollout of 1600 steps may end later
        vectorised = VectorisedAgents(made, CPU)
        learner = QLearner(vectorised, make_network(vectorised, settings()), settings())
        before = learner.newest.clone()
        torch.manual_seed(1)
        rows_ = batch(1, 8, terminated=True)
        for name in ("observations", "next_observations", "actions", "rewards", "terminated"):
            value = getattr(rows_, name)
            setattr(rows_, name, value.expand(2, *value.shape[1:]))
        learner.step(rows_, torch.rand(2, 8), env_steps)
        moved.append((learner.newest - before).abs().amax(1))
    # Adam's first step equals the learning rate.
    torch.testing.assert_close(torch.stack(moved), torch.tensor([[1e-2, 1e-3], [1e-3, 1e-4], [1e-3, 1e-4]]), rtol=1e-2, atol=0)


def test_a_solved_agent_continues_from_its_average():
    vectorised = VectorisedAgents(agents(1), CPU)
    learner = QLearner(vectorised, make_network(vectorised, settings()), settings(lr_solved=0.0))
    for _ in range(5):
        learner.step(batch(4, 8, terminated=True), torch.rand(4, 8), 0)
    solved = learner.average[1].clone()
    learner.continue_from_average(1)
    for _ in range(5):
        learner.step(batch(4, 8, terminated=True), torch.rand(4, 8), 0)
    torch.testing.assert_close(learner.average[1], solved)
    assert torch.equal(learner.newest[1], solved)
    assert not torch.equal(learner.newest[0], solved)


def test_draws_follow_from_seed_purpose_and_step_alone():
    alone, among = UniformDraws([7], "replay", 5, CPU), UniformDraws([1, 7, 2], "replay", 5, CPU)
    for step in (0, 3, BLOCK, 5 * BLOCK + 1, 2):
        assert torch.equal(alone.at(step)[0], among.at(step)[1])
    different = [
        alone.at(0),
        alone.at(1),
        alone.at(BLOCK),
        UniformDraws([7], "other", 5, CPU).at(0),
        UniformDraws([8], "replay", 5, CPU).at(0),
    ]
    assert len({tuple(item.flatten().tolist()) for item in different}) == len(different)
    assert 0.49 < UniformDraws([3], "replay", 100_000, CPU).at(0).mean() < 0.51
