"""Update rules of Q-learning and SARSA. They differ in one term only: the value of the next state."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddl.rl.policies import choose, largest


class UpdateRule(ABC):
    """Estimates the value of the next state, from which the TD target bootstraps."""

    @abstractmethod
    def bootstrap(self, values: Tensor, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        """Value of the next state [agents, items].

        `values` and `probabilities` [agents, actions, items] are the next state's action values and the policy's
        probabilities; `uniforms` [agents, items] are random numbers in [0, 1).
        """


class QLearning(UpdateRule):
    """Off-policy: the best action's value, max_a' Q(s', a') (equations 3 and 5)."""

    def bootstrap(self, values: Tensor, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        return largest(values)


class Sarsa(UpdateRule):
    """On-policy: the value of an action a' sampled from the policy, Q(s', a') (equations 2 and 4).

    As in the study (7.6.1), a' is sampled at the time of the update, from the action values at that time.
    """

    def bootstrap(self, values: Tensor, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        return values.gather(1, choose(probabilities, uniforms).unsqueeze(1)).squeeze(1)


@dataclass(frozen=True)
class MixedRule(UpdateRule):
    """An update rule for each agent: SARSA if its entry of `is_sarsa` [agents, 1] is true, else Q-learning."""

    is_sarsa: Tensor

    def bootstrap(self, values: Tensor, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        off_policy = QLearning().bootstrap(values, probabilities, uniforms)
        return torch.where(self.is_sarsa, Sarsa().bootstrap(values, probabilities, uniforms), off_policy)


def td_target(
    rewards: Tensor, terminated: Tensor, bootstrap: Tensor, gamma: "float | Tensor", old: Tensor, alpha: "float | Tensor"
) -> Tensor:
    """Target of Q(s, a): Q + alpha (r + gamma bootstrap - Q) (equations 2 and 3); with alpha = 1, equations 4 and 5.

    All tensors are [agents, items]; `old` is Q(s, a). A terminated step does not bootstrap; a truncated step does, because
    reaching the time limit is no failure.
    """
    one_step_return = rewards + gamma * (1 - terminated) * bootstrap
    return old + alpha * (one_step_return - old)


def rule_for_agents(names: Sequence[str], device: torch.device) -> UpdateRule:
    """One update rule for agents with these names. Raises ValueError if a name is not `q_learning` or `sarsa`."""
    if unknown := set(names) - {"q_learning", "sarsa"}:
        raise ValueError(f"agent: {min(unknown)!r} is unknown. Use q_learning or sarsa.")
    sarsa = [name == "sarsa" for name in names]
    if len(set(sarsa)) == 1:
        return Sarsa() if sarsa[0] else QLearning()
    return MixedRule(torch.tensor(sarsa, device=device).unsqueeze(1))
