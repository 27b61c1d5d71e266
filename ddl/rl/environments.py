"""CartPole, a whole stack of members' environments in one step.

The equations are those of gymnasium's CartPole (Barto, Sutton and Anderson 1983; Florian 2007), in fp64 as there, and the
tests hold them to it step for step. Ours differs in what surrounds them: every environment starts its episodes from numbers
it is handed, so that a member's episodes do not depend on its neighbours', and its state is a plain tensor that can be
stored and sent.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

GRAVITY, CART_MASS, POLE_MASS, HALF_POLE, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
"""m/s^2, kg, kg, m, N, s."""

MASS = CART_MASS + POLE_MASS
MAX_POSITION = 2.4
MAX_ANGLE = 12 * 2 * math.pi / 360
START = 0.05
"""Episodes start with all four state variables uniform in -0.05..0.05."""

ORDER_ONE = (1 / 2.4, 0.5, 5.0, 0.5)
"""Position, velocity, angle, angular velocity are multiplied by these, so that what a network sees is of order one."""


@dataclass(frozen=True)
class EnvState:
    """`physics` [4, members, envs] fp64: m, m/s, rad, rad/s. `steps` [members, envs] int64: of the running episode."""

    physics: Tensor
    steps: Tensor

    def part(self, first: int, last: int) -> "EnvState":
        """Of the environments `first` to `last - 1` of every member."""
        return EnvState(self.physics[..., first:last], self.steps[:, first:last])


@dataclass(frozen=True)
class VectorisedCartPole:
    """Reward 1 a step. `step_limit`: an episode is truncated there; `solved_return`: the mean return that counts as solved."""

    name: str
    step_limit: int
    solved_return: float

    observation_size = 4
    actions = 2
    start_numbers = 4
    """How many uniform numbers start an episode."""

    def start(self, uniforms: Tensor) -> EnvState:
        """Fresh episodes from numbers in [0, 1), [members, envs * 4]."""
        physics = self._physics(uniforms)
        return EnvState(physics, torch.zeros(physics.shape[1:], dtype=torch.int64, device=physics.device))

    def observe(self, state: EnvState) -> Tensor:
        """[members, 4, envs] fp32, of order one."""
        scale = torch.tensor(ORDER_ONE, dtype=torch.float64, device=state.physics.device).view(4, 1, 1)
        return (state.physics * scale).float().transpose(0, 1)

    def step(self, state: EnvState, actions: Tensor) -> tuple[EnvState, Tensor, Tensor]:
        """(state after `actions` [members, envs] of 0 left or 1 right, terminated, truncated), not yet restarted.

        Terminated: the pole or the cart is out of bounds, and nothing comes after. Truncated: only the time is up, so the
        value of what would have come after still counts.
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
        """The same with a fresh episode where one has `ended` [members, envs]."""
        return EnvState(torch.where(ended, self._physics(uniforms), state.physics), state.steps.masked_fill(ended, 0))

    def _physics(self, uniforms: Tensor) -> Tensor:
        return uniforms.double().unflatten(1, (-1, 4)).permute(2, 0, 1).mul(2 * START).sub(START)


ENVIRONMENTS = {item.name: item for item in (VectorisedCartPole("CartPole-v0", 200, 195.0), VectorisedCartPole("CartPole-v1", 500, 475.0))}
"""Limits and thresholds as gymnasium registers them."""


def find_environment(name: str) -> VectorisedCartPole:
    """The batched environment of gymnasium's name. Raises ValueError for any other, with the reason."""
    if name in ENVIRONMENTS:
        return ENVIRONMENTS[name]
    import gymnasium

    there = " or ".join(ENVIRONMENTS)
    try:
        made = gymnasium.make(name)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise ValueError(f"environment: {name!r} is not one that gymnasium can make ({error}). Use {there}.") from error
    space = made.action_space
    made.close()
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise ValueError(f"environment: {name} has continuous actions ({space}), and these agents choose among a few. Use {there}.")
    raise ValueError(f"environment: {name} is not batched here. Use {there}.")
