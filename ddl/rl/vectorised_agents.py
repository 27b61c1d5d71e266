"""What stacked agents may differ in, and what they share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddl.rl import policies, update_rules
from ddl.rl.policies import EpsilonGreedy, Policy, Softmax
from ddl.rl.update_rules import UpdateRule


@dataclass(frozen=True)
class AgentSettings:
    """One agent of a stack. Only the parameters of its own policy matter to it.

    `epsilon_*`: see EpsilonGreedy; `temperature`: see Softmax; `alpha`: the step size of equations 2 and 3; `lr`: of Adam.
    """

    seed: int
    agent: str
    policy: str
    temperature: float
    epsilon_start: float
    epsilon_end: float
    epsilon_decay_steps: float
    lr: float
    gamma: float
    alpha: float

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma: must be from 0 to below 1, not {self.gamma}.")
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha: must be above 0 and at most 1, not {self.alpha}.")
        if not self.lr > 0:
            raise ValueError(f"lr: must be above 0, not {self.lr}.")


@dataclass(frozen=True)
class TrainingSettings:
    """What all members of a stack share.

    `envs`: environments a member; each has `rollout_steps` steps taken in it, then `updates` updates are made of
    `batch_size` replayed transitions each, from the first `learning_starts` env steps on. `env_steps`: a member's, in all.
    `lr_end`: learning rates fall linearly to this share of themselves; `lr_solved`: and
    by this factor once a member has solved its environment. `target_rate` and `average_rate`: how far the target
    network, and the weights that are evaluated, move towards the newest weights at each update; 1 for the newest
    themselves. `evaluate_every`: env steps between greedy evaluations of `evaluation_episodes` fresh episodes.
    `evaluate_from`: the mean return of the last 50 training episodes from which a member is worth evaluating.
    """

    environment: str
    hidden: tuple[int, ...]
    optimistic: bool
    envs: int
    rollout_steps: int
    updates: int
    batch_size: int
    replay_size: int
    learning_starts: int
    env_steps: int
    lr_end: float
    lr_solved: float
    target_rate: float
    average_rate: float
    evaluate_every: int
    evaluation_episodes: int
    evaluate_from: float
    num_env_runners: int
    runner_timeout_s: float | None

    def __post_init__(self) -> None:
        if self.num_env_runners < 0 or self.num_env_runners > self.envs:
            raise ValueError(f"num_env_runners: must be from 0 to the {self.envs} environments there are, not {self.num_env_runners}.")
        if self.num_env_runners == 0 and self.runner_timeout_s is not None:
            raise ValueError("runner_timeout_s: is for runners that are processes, and num_env_runners is 0. Set it to null.")
        if self.envs * self.rollout_steps > self.replay_size:
            raise ValueError(f"replay_size: must hold one rollout, {self.envs * self.rollout_steps} transitions, not {self.replay_size}.")

    @property
    def rollout(self) -> int:
        """A member's env steps between updates."""
        return self.envs * self.rollout_steps


class VectorisedAgents:
    """Members as tensors: one policy, one agent, and a column of each number."""

    def __init__(self, members: Sequence[AgentSettings], device: torch.device):
        if not members:
            raise ValueError("members: none. Give at least one.")
        self.members, self.device = tuple(members), device
        self.seeds = [member.seed for member in members]
        self.gamma, self.alpha, self.lr = (self._column(name).view(-1, 1) for name in ("gamma", "alpha", "lr"))
        self.value_scale = (1 / (1 - self._column("gamma").double())).float().view(-1, 1, 1)
        epsilon = EpsilonGreedy(*(self._column(name) for name in ("epsilon_start", "epsilon_end", "epsilon_decay_steps")))
        self.policy: Policy = policies.policy_for_agents([m.policy for m in members], epsilon, Softmax(self._column("temperature")), device)
        self.agent: UpdateRule = update_rules.rule_for_agents([member.agent for member in members], device)

    def __len__(self) -> int:
        return len(self.members)

    def _column(self, name: str) -> Tensor:
        return torch.tensor([getattr(m, name) for m in self.members], dtype=torch.float32, device=self.device).view(-1, 1, 1)
