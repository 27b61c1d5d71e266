"""Rollouts: steps of all environments with the policies of vectorised agents."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddl.rl import replay
from ddl.rl.draws import UniformDraws
from ddl.rl.environments import EnvState, VectorisedCartPole
from ddl.rl.networks import VectorisedQNetwork
from ddl.rl.policies import choose
from ddl.rl.vectorised_agents import VectorisedAgents


@dataclass(frozen=True)
class Rollout:
    """Transitions `rows` [agents, steps, envs, width], and the `state` after the last step.

    `ended` [n, 4] int64 lists the episodes that ended, in this order: step, agent, environment, length. An episode's return
    equals its length, because the reward is 1 per step.
    """

    rows: Tensor
    ended: Tensor
    state: EnvState

    def to(self, device: torch.device) -> "Rollout":
        """The same rollout with rows and state on `device`."""
        return Rollout(self.rows.to(device), self.ended, self.state.to(device))


def join_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """One rollout from rollouts of neighbouring ranges of environments."""
    if len(parts) == 1:
        return parts[0]
    ended = torch.cat([part.ended for part in parts])
    order = sorted(range(len(ended)), key=lambda index: ended[index, :3].tolist())
    physics = torch.cat([part.state.physics for part in parts], dim=2)
    steps = torch.cat([part.state.steps for part in parts], dim=1)
    return Rollout(torch.cat([part.rows for part in parts], dim=2), ended[order], EnvState(physics, steps))


class RolloutSampler:
    """Steps the environments `first` to `last - 1` of every agent's `envs`.

    A sample depends on its arguments only: state, parameters and step number. So any process can continue from another
    one's state, and the numbers are the same for every division of the environments.
    """

    def __init__(
        self, agents: VectorisedAgents, network: VectorisedQNetwork, environment: VectorisedCartPole, envs: int, first: int, last: int
    ):
        self._agents, self._network, self._environment = agents, network, environment
        self._envs, self._first = envs, first
        starts = environment.start_numbers
        self._draws = UniformDraws(agents.seeds, "environments", envs * (1 + starts), agents.device)
        self._acting, self._starting = slice(first, last), slice(envs + first * starts, envs + last * starts)

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        """Take `steps` steps in each environment from `state`, which is the state before step number `step`.

        `parameters` [agents, n] are constant during the rollout.
        """
        environment, layers = self._environment, self._network.layers(parameters)
        rows, ended = [], []
        observations = environment.observe(state)
        for number in range(steps):
            uniforms = self._draws.at(step + number)
            values = self._network.values(layers, observations)
            actions = choose(self._agents.policy.probabilities(values, (step + number) * self._envs), uniforms[:, self._acting])
            after, terminated, truncated = environment.step(state, actions)
            next_observations = environment.observe(after)
            rows.append(replay.transition_rows(observations, next_observations, actions, terminated))
            over = terminated | truncated
            if over.any():
                places = over.nonzero()
                columns = (torch.full_like(places[:, :1], number), places + places.new_tensor([0, self._first]))
                ended.append(torch.cat((*columns, after.steps[over].unsqueeze(1)), dim=1))
                after = environment.restart(after, over, uniforms[:, self._starting])
                next_observations = environment.observe(after)
            state, observations = after, next_observations
        episodes = torch.cat(ended) if ended else torch.zeros(0, 4, dtype=torch.int64, device=observations.device)
        return Rollout(torch.stack(rows, dim=1), episodes, state)
