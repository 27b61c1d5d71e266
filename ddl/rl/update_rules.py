"""Q-learning and SARSA. Their updates are the same but for one term: the value they bootstrap from the next state."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddl.rl.policies import choose, largest


class UpdateRule(ABC):
    @abstractmethod
    def bootstrap(self, values: Tensor, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        """The next state's value [members, items].

        From its action values and the policy's probabilities [members, actions, items], and a number in [0, 1) an item.
        """


class QLearning(UpdateRule):
    """Off-policy: the best action's value, max_a' Q(s', a') (equations 3 and 5)."""

    def bootstrap(self, values: Tensor, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        return largest(values)


class Sarsa(UpdateRule):
    """On-policy: the value of an action a' sampled from the policy, Q(s', a') (equations 2 and 4).

    As the study does it (7.6.1): a' is sampled when the update is made, from the values of that moment.
    """

    def bootstrap(self, values: Tensor, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        return values.gather(1, choose(probabilities, uniforms).unsqueeze(1)).squeeze(1)


@dataclass(frozen=True)
class MixedRule(UpdateRule):
    """An agent for each member of a stack: SARSA where `which` [members, 1] is true, else Q-learning."""

    which: Tensor

    def bootstrap(self, values: Tensor, probabilities: Tensor, uniforms: Tensor) -> Tensor:
        off = QLearning().bootstrap(values, probabilities, uniforms)
        return torch.where(self.which, Sarsa().bootstrap(values, probabilities, uniforms), off)


def td_target(
    rewards: Tensor, terminated: Tensor, bootstrap: Tensor, gamma: "float | Tensor", old: Tensor, alpha: "float | Tensor"
) -> Tensor:
    """What Q(s, a) is moved to: Q + alpha (r + gamma bootstrap - Q) (equations 2 and 3), with alpha = 1 equations 4 and 5.

    All [members, items]; `old` is Q(s, a). Nothing follows a terminated step. One that is merely truncated bootstraps
    like any other: running out of time is no failure.
    """
    aim = rewards + gamma * (1 - terminated) * bootstrap
    return old + alpha * (aim - old)


def rule_for_agents(names: Sequence[str], device: torch.device) -> UpdateRule:
    """One agent for the stack whose members' agents have these names, `q_learning` or `sarsa`."""
    if unknown := set(names) - {"q_learning", "sarsa"}:
        raise ValueError(f"agent: {min(unknown)!r} is unknown. Use q_learning or sarsa.")
    sarsa = [name == "sarsa" for name in names]
    if len(set(sarsa)) == 1:
        return Sarsa() if sarsa[0] else QLearning()
    return MixedRule(torch.tensor(sarsa, device=device).unsqueeze(1))
