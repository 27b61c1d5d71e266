"""Policies: epsilon-greedy and softmax over action values, with parameters that may differ between agents.

Values and probabilities are [agents, actions, items]; parameters are numbers, or [agents, 1, 1] for vectorised agents.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class Policy(ABC):
    """Maps action values to the probabilities of the actions."""

    @abstractmethod
    def probabilities(self, values: Tensor, env_steps: int) -> Tensor:
        """Probability of each action once an agent has taken `env_steps` steps."""


@dataclass(frozen=True)
class EpsilonGreedy(Policy):
    """Takes a uniformly random action with probability epsilon, else one of the best actions.

    Epsilon decays linearly from `start` to `end` over the first `decay_steps` env steps.
    """

    start: float | Tensor
    end: float | Tensor
    decay_steps: float | Tensor

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            _require(name, getattr(self, name), "from 0 to 1", lambda value: (value >= 0) & (value <= 1))
        _require("decay_steps", self.decay_steps, "at least 1", lambda value: value >= 1)

    def epsilon(self, env_steps: int) -> Tensor:
        """Epsilon after `env_steps` steps."""
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
    """A policy for each agent: `first` if its entry of `use_first` [agents, 1, 1] is true, else `second`."""

    use_first: Tensor
    first: Policy
    second: Policy

    def probabilities(self, values: Tensor, env_steps: int) -> Tensor:
        return torch.where(self.use_first, self.first.probabilities(values, env_steps), self.second.probabilities(values, env_steps))


def choose(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Actions [agents, items], sampled by inverting the cumulative probabilities at `uniforms` [agents, items].

    The action is 0 if probabilities are NaN: a diverged agent must not stop the other agents.
    """
    bounds = probabilities[:, :-1].cumsum(1)  # the last action gets the rest, so rounding of the sum does not matter
    return (uniforms.unsqueeze(1) >= bounds).sum(1)


def largest(values: Tensor) -> Tensor:
    """Value of the best action [agents, items]. Equals amax(1), which is many times slower on an axis this short."""
    return functools.reduce(torch.maximum, values.unbind(1))


def greedy(values: Tensor) -> Tensor:
    """Best action [agents, items], the first of several. Equals argmax(1), which is slower for the same reason."""
    maximum, *others = values.unbind(1)
    best = torch.zeros_like(maximum, dtype=torch.int64)
    for action, value in enumerate(others, start=1):
        best = torch.where(value > maximum, action, best)
        maximum = torch.maximum(maximum, value)
    return best


def policy_for_agents(names: Sequence[str], epsilon: EpsilonGreedy, softmax: Softmax, device: torch.device) -> Policy:
    """One policy for agents whose policies have these names. Raises ValueError if a name is not `epsilon_greedy` or `softmax`."""
    if unknown := set(names) - {"epsilon_greedy", "softmax"}:
        raise ValueError(f"policy: {min(unknown)!r} is unknown. Use epsilon_greedy or softmax.")
    soft = [name == "softmax" for name in names]
    if len(set(soft)) == 1:
        return softmax if soft[0] else epsilon
    return MixedPolicy(torch.tensor(soft, device=device).view(-1, 1, 1), softmax, epsilon)


def _require(name: str, value: "float | Tensor", range_: str, holds) -> None:  # type: ignore[no-untyped-def]
    if not bool(holds(torch.as_tensor(value)).all()):
        raise ValueError(f"{name}: must be {range_}, not {value if isinstance(value, int | float) else value.flatten().tolist()}.")
