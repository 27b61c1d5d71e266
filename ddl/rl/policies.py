"""How an action follows from action values: epsilon-greedy and softmax, each with parameters that may differ by member.

Values and probabilities are [members, actions, items]; parameters are numbers, or [members, 1, 1] for a stack.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class Policy(ABC):
    @abstractmethod
    def probabilities(self, values: Tensor, env_steps: int) -> Tensor:
        """Of each action, after a member's first `env_steps` steps."""


@dataclass(frozen=True)
class EpsilonGreedy(Policy):
    """With probability epsilon any action, else the best one (one of the best, where several are). Epsilon falls linearly from `start` to `end`.

    The fall takes the first `decay_steps` env steps.
    """

    start: float | Tensor
    end: float | Tensor
    decay_steps: float | Tensor

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            _require(name, getattr(self, name), "from 0 to 1", lambda value: (value >= 0) & (value <= 1))
        _require("decay_steps", self.decay_steps, "at least 1", lambda value: value >= 1)

    def epsilon(self, env_steps: int) -> Tensor:
        start, end, steps = (torch.as_tensor(value) for value in (self.start, self.end, self.decay_steps))
        return start + (end - start) * (env_steps / steps).clamp(max=1)

    def probabilities(self, values: Tensor, env_steps: int) -> Tensor:
        epsilon = self.epsilon(env_steps).to(values.device, values.dtype)
        best = (values == largest(values).unsqueeze(1)).to(values.dtype)
        return best * ((1 - epsilon) / best.sum(1, keepdim=True)) + epsilon / values.shape[1]


@dataclass(frozen=True)
class Softmax(Policy):
    """Equation 6: p_k = exp(Q_k / T) / sum_i exp(Q_i / T)."""

    temperature: float | Tensor

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, "above 0 and finite", lambda value: (value > 0) & value.isfinite())

    def probabilities(self, values: Tensor, env_steps: int) -> Tensor:
        return torch.softmax(values / self.temperature, dim=1)


@dataclass(frozen=True)
class MixedPolicy(Policy):
    """A policy for each member of a stack: `first` where `which` [members, 1, 1] is true, else `second`."""

    which: Tensor
    first: Policy
    second: Policy

    def probabilities(self, values: Tensor, env_steps: int) -> Tensor:
        return torch.where(self.which, self.first.probabilities(values, env_steps), self.second.probabilities(values, env_steps))


def choose(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Actions [members, items], drawn by inverting the cumulative probabilities at `uniforms` [members, items].

    Where probabilities are not numbers, action 0: a diverged member must not stop its neighbours.
    """
    bounds = probabilities[:, :-1].cumsum(1)  # the last action takes what is left, whatever rounding did to the sum
    return (uniforms.unsqueeze(1) >= bounds).sum(1)


def largest(values: Tensor) -> Tensor:
    """The best action's value [members, items]. As amax(1), which takes many times as long over so short an axis."""
    return functools.reduce(torch.maximum, values.unbind(1))


def greedy(values: Tensor) -> Tensor:
    """The best action [members, items], the first of several. As argmax(1), and faster for the same reason."""
    first, *others = values.unbind(1)
    best = torch.zeros_like(first, dtype=torch.int64)
    for action, value in enumerate(others, start=1):
        best = torch.where(value > first, action, best)
        first = torch.maximum(first, value)
    return best


def policy_for_agents(names: Sequence[str], epsilon: EpsilonGreedy, softmax: Softmax, device: torch.device) -> Policy:
    """One policy for the stack whose members' policies have these names, `epsilon_greedy` or `softmax`."""
    if unknown := set(names) - {"epsilon_greedy", "softmax"}:
        raise ValueError(f"policy: {min(unknown)!r} is unknown. Use epsilon_greedy or softmax.")
    soft = [name == "softmax" for name in names]
    if len(set(soft)) == 1:
        return softmax if soft[0] else epsilon
    return MixedPolicy(torch.tensor(soft, device=device).view(-1, 1, 1), softmax, epsilon)


def _require(name: str, value: "float | Tensor", range_: str, holds) -> None:  # type: ignore[no-untyped-def]
    given = torch.as_tensor(value)
    if not bool(holds(given).all()):
        raise ValueError(f"{name}: must be {range_}, not {value if isinstance(value, int | float) else value.flatten().tolist()}.")
