"""Stepping a stack's environments with its policies."""

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
    """What came of some steps. `rows` [members, steps, envs, width] are transitions, `state` where it ended.

    `ended` [n, 4] int64 are the episodes that ended, in that order: step, member, environment, length. The return of an
    episode is its length, for the reward is 1 a step.
    """

    rows: Tensor
    ended: Tensor
    state: EnvState


def join_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """One rollout from those of neighbouring environments."""
    if len(parts) == 1:
        return parts[0]
    ended = torch.cat([part.ended for part in parts])
    order = sorted(range(len(ended)), key=lambda index: ended[index, :3].tolist())
    physics = torch.cat([part.state.physics for part in parts], dim=2)
    steps = torch.cat([part.state.steps for part in parts], dim=1)
    return Rollout(torch.cat([part.rows for part in parts], dim=2), ended[order], EnvState(physics, steps))


class RolloutSampler:
    """Steps the environments `first` to `last - 1` of every member.

    It keeps nothing between calls that matters: state, parameters and the step's number come in, so any process can go on
    where another stopped, and the numbers are the same however the environments are shared out.
    """

    def __init__(
        self, stack: VectorisedAgents, network: VectorisedQNetwork, environment: VectorisedCartPole, envs: int, first: int, last: int
    ):
        self._stack, self._network, self._environment = stack, network, environment
        self._first, self._last = first, last
        starts = environment.start_numbers
        self._draws = UniformDraws(stack.seeds, "environments", envs * (1 + starts), stack.device)
        self._acting, self._starting = slice(first, last), slice(envs + first * starts, envs + last * starts)
        self._envs = envs

    def start(self) -> EnvState:
        starts = UniformDraws(self._stack.seeds, "first episodes", self._envs * self._environment.start_numbers, self._stack.device)
        return self._environment.start(starts.at(0)).part(self._first, self._last)

    def sample(self, parameters: Tensor, state: EnvState, step: int, steps: int) -> Rollout:
        """Take `steps` steps in each environment from `state`, the member's `step`-th of each environment and following.

        `parameters` [members, n] stay as they are meanwhile.
        """
        environment, layers = self._environment, self._network.layers(parameters)
        taken, ended = [], []
        observations = environment.observe(state)
        for number in range(steps):
            drawn = self._draws.at(step + number)
            values = self._network.values(layers, observations)
            actions = choose(self._stack.policy.probabilities(values, (step + number) * self._envs), drawn[:, self._acting])
            after, terminated, truncated = environment.step(state, actions)
            following = environment.observe(after)
            taken.append(replay.transition_rows(observations, following, actions, terminated))
            over = terminated | truncated
            if over.any():
                places = over.nonzero()
                columns = (torch.full_like(places[:, :1], number), places + places.new_tensor([0, self._first]))
                ended.append(torch.cat((*columns, after.steps[over].unsqueeze(1)), dim=1))
                after = environment.restart(after, over, drawn[:, self._starting])
                following = environment.observe(after)
            state, observations = after, following
        lengths = torch.cat(ended) if ended else torch.zeros(0, 4, dtype=torch.int64, device=observations.device)
        return Rollout(torch.stack(taken, dim=1), lengths, state)
