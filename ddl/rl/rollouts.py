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

    `lengths` [steps, agents, envs] int64 are the lengths of the episodes that ended at each step, 0 where none ended. An episode's
    return equals its length, because the reward is 1 per step.
    """

    rows: Tensor
    lengths: Tensor
    state: EnvState

    def to(self, device: torch.device) -> "Rollout":
        """The same rollout on `device`."""
        return Rollout(self.rows.to(device), self.lengths.to(device), self.state.to(device))


def join_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """One rollout from rollouts of neighbouring ranges of environments."""
    if len(parts) == 1:
        return parts[0]
    rows, lengths, physics = (
        torch.cat(tensors, dim=2) for tensors in zip(*((part.rows, part.lengths, part.state.physics) for part in parts), strict=True)
    )
    return Rollout(rows, lengths, EnvState(physics, torch.cat([part.state.steps for part in parts], dim=1)))


class RolloutSampler:
    """Steps the environments `first` to `last - 1` of every agent's `envs`.

    A sample depends on its arguments only: state, parameters and step number. So any process can continue from another
    one's state, and the numbers are the same for every division of the environments.
    """

    def __init__(
        self, agents: VectorisedAgents, network: VectorisedQNetwork, environment: VectorisedCartPole, envs: int, first: int, last: int
    ):
        self._agents, self._network, self._environment = agents, network, environment
        self._envs = envs
        starts = environment.start_numbers
        self._draws = UniformDraws(agents.seeds, "environments", envs * (1 + starts), agents.device)
        self._acting, self._starting = slice(first, last), slice(envs + first * starts, envs + last * starts)

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        """Take `steps` steps in each environment from `state`, which is the state before step number `step`.

        `parameters` [agents, n] are constant during the rollout. It does not wait for the device: if no episode ended, restarting
        changes nothing.
        """
        environment, layers = self._environment, self._network.layers(parameters)
        rows, lengths = [], []
        observations = environment.observe(state)
        for number in range(steps):
            uniforms = self._draws.at(step + number)
            values = self._network.values(layers, observations)
            actions = choose(self._agents.policy.probabilities(values, (step + number) * self._envs), uniforms[:, self._acting])
            after, terminated, truncated = environment.step(state, actions)
            next_observations = environment.observe(after)
            rows.append(replay.transition_rows(observations, next_observations, actions, terminated))
            over = terminated | truncated
            lengths.append(after.steps * over)
            state = environment.restart(after, over, uniforms[:, self._starting])
            observations = environment.observe(state)
        return Rollout(torch.stack(rows, dim=1), torch.stack(lengths), state)
