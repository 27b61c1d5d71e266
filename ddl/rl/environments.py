"""Batched CartPole: one call steps all environments of all agents.

The equations are those of gymnasium's CartPole (Barto, Sutton and Anderson 1983; Florian 2007), also in fp64; tests compare
both step by step. Two things differ. The random numbers of every episode are passed in, so that an agent's episodes do not
depend on the other agents. The state is a plain tensor that can be stored and sent to another process.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ddl.rl.draws import UniformDraws
from ddl.rl.environment_names import ENVIRONMENTS, known_environment

GRAVITY, CART_MASS, POLE_MASS, HALF_POLE, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
"""m/s^2, kg, kg, m, N, s."""

MASS = CART_MASS + POLE_MASS
MAX_POSITION = 2.4
MAX_ANGLE = 12 * 2 * math.pi / 360
START = 0.05
"""Episodes start with all four state variables uniform in -0.05..0.05."""

ORDER_ONE = (1 / 2.4, 0.5, 5.0, 0.5)
"""Factors for position, velocity, angle and angular velocity that give a network inputs of order one."""


@dataclass(frozen=True)
class EnvState:
    """State of a batch of environments.

    `physics` [4, agents, envs] fp64: position in m, velocity in m/s, angle in rad, angular velocity in rad/s.
    `steps` [agents, envs] int64: steps taken in the running episode.
    """

    physics: Tensor
    steps: Tensor

    def part(self, first: int, last: int) -> "EnvState":
        """State of the environments `first` to `last - 1` of every agent."""
        return EnvState(self.physics[..., first:last], self.steps[:, first:last])

    def to(self, device: torch.device) -> "EnvState":
        """The same state on `device`, in contiguous memory."""
        return EnvState(self.physics.to(device).contiguous(), self.steps.to(device).contiguous())


@dataclass(frozen=True)
class VectorisedCartPole:
    """CartPole with a reward of 1 per step, truncated after `step_limit` steps and solved at a mean return of `solved_return`."""

    name: str
    step_limit: int
    solved_return: float

    observation_size = 4
    actions = 2
    start_numbers = 4
    """Uniform numbers that one episode needs to start."""

    def start(self, seeds: Sequence[int], purpose: str, envs: int, device: torch.device) -> EnvState:
        """New episodes in `envs` environments for each agent; the start states depend on its seed and `purpose`."""
        physics = self._physics(UniformDraws(seeds, purpose, envs * self.start_numbers, device).at(0))
        return EnvState(physics, torch.zeros(physics.shape[1:], dtype=torch.int64, device=device))

    def observe(self, state: EnvState) -> Tensor:
        """Observations [agents, 4, envs] fp32, of order one."""
        return (state.physics * _order_one(state.physics.device)).float().transpose(0, 1)

    def step(self, state: EnvState, actions: Tensor) -> tuple[EnvState, Tensor, Tensor]:
        """State after `actions` [agents, envs] (0 left, 1 right), terminated and truncated [agents, envs]. Restarts nothing.

        Terminated: the pole or the cart is out of bounds, so the next state has no value. Truncated: the time limit is
        reached, so the next state still has its value.
        """
        position, velocity, angle, spin = state.physics
        force = actions.to(position.dtype).mul(2 * FORCE).sub_(FORCE)
        cos, sin = angle.cos(), angle.sin()
        push = (force + POLE_MASS * HALF_POLE * spin.square() * sin) / MASS
        spin_rate = (GRAVITY * sin - cos * push) / (HALF_POLE * (4.0 / 3.0 - POLE_MASS * cos.square() / MASS))
        acceleration = push - POLE_MASS * HALF_POLE * spin_rate * cos / MASS
        physics = state.physics + TAU * torch.stack((velocity, acceleration, spin, spin_rate))
        steps = state.steps + 1
        terminated = (physics[0].abs() > MAX_POSITION) | (physics[2].abs() > MAX_ANGLE)
        return EnvState(physics, steps), terminated, steps >= self.step_limit

    def restart(self, state: EnvState, ended: Tensor, uniforms: Tensor) -> EnvState:
        """State with a new episode in every environment that `ended` [agents, envs], from `uniforms` [agents, envs * 4] in [0, 1)."""
        return EnvState(torch.where(ended, self._physics(uniforms), state.physics), state.steps.masked_fill(ended, 0))

    def _physics(self, uniforms: Tensor) -> Tensor:
        return uniforms.double().unflatten(1, (-1, 4)).permute(2, 0, 1).mul(2 * START).sub(START)


@cache
def _order_one(device: torch.device) -> Tensor:
    """`ORDER_ONE` as a column, fp64 [4, 1, 1]; cached, because copying it to the device at every step would make the host wait."""
    return torch.tensor(ORDER_ONE, dtype=torch.float64, device=device).view(4, 1, 1)


def find_environment(name: str) -> VectorisedCartPole:
    """The batched environment with gymnasium's `name`. Raises ValueError with the reason if there is none."""
    return VectorisedCartPole(name, *ENVIRONMENTS[known_environment(name)])
