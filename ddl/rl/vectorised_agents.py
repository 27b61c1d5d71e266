"""Vectorised agents: agents as tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddl.rl import policies, update_rules
from ddl.rl.policies import EpsilonGreedy, Policy, Softmax
from ddl.rl.settings import AgentSettings
from ddl.rl.update_rules import UpdateRule


class VectorisedAgents:
    """Agents as tensors: one policy and one update rule for all, and a column for each number.

    `gamma`, `alpha` and `lr` are [agents, 1]; `value_scale` [agents, 1, 1] is the highest possible value, 1 / (1 - gamma).
    """

    def __init__(self, settings: Sequence[AgentSettings], device: torch.device):
        """Raises ValueError if `settings` is empty, or has an unknown agent or policy."""
        if not settings:
            raise ValueError("agents: the list is empty. Give at least one agent.")
        self.settings, self.device = tuple(settings), device
        self.seeds = [agent.seed for agent in settings]
        self.gamma, self.alpha, self.lr = (self._column(name).view(-1, 1) for name in ("gamma", "alpha", "lr"))
        self.value_scale = (1 / (1 - self._column("gamma").double())).float().view(-1, 1, 1)
        epsilon = EpsilonGreedy(*(self._column(name) for name in ("epsilon_start", "epsilon_end", "epsilon_decay_steps")))
        softmax = Softmax(self._column("temperature"))
        self.policy: Policy = policies.policy_for_agents([agent.policy for agent in settings], epsilon, softmax, device)
        self.update_rule: UpdateRule = update_rules.rule_for_agents([agent.agent for agent in settings], device)

    def __len__(self) -> int:
        return len(self.settings)

    def _column(self, name: str) -> Tensor:
        return torch.tensor([getattr(agent, name) for agent in self.settings], dtype=torch.float32, device=self.device).view(-1, 1, 1)
