"""Settings of each agent, and the settings that all agents of a training share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class _OfTask:
    @classmethod
    def of(cls, task: Any, **others: Any) -> Self:
        """Settings from the hyperparameters of `task` with the same names, and from `others`."""
        return cls(**{field.name: getattr(task, field.name) for field in fields(cls) if hasattr(task, field.name)} | others)


@dataclass(frozen=True)
class AgentSettings(_OfTask):
    """Settings of one agent; those of the other policy are ignored. Raises ValueError if gamma, alpha or lr is out of range.

    `epsilon_*`: see EpsilonGreedy. `temperature`: see Softmax. `alpha`: step size of equations 2 and 3. `lr`: Adam's.
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


@dataclass(frozen=True, kw_only=True)
class SharedSettings(_OfTask):
    """Settings that all agents share, for values in networks and in tables. All counts are per agent.

    `optimistic`: action values start at 1 / (1 - gamma) instead of 0. `envs`: environments. `env_steps`: length of training.
    `evaluate_every`: env steps between greedy evaluations of `evaluation_episodes` new episodes each. `evaluate_from`: mean
    return of the last 50 training episodes below which an agent is not evaluated.
    """

    environment: str
    optimistic: bool
    envs: int
    env_steps: int
    evaluate_every: int
    evaluation_episodes: int
    evaluate_from: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TableSettings(SharedSettings):
    """Settings for values in tables. `alpha_end`: factor to which alpha decays linearly."""

    alpha_end: float


CHECKED = ("num_env_runners", "runner_timeout_s", "replay_size")
"""Settings that `check_setting` compares with others."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(SharedSettings):
    """Settings for values in networks. Raises ValueError if they contradict each other.

    `rollout_steps` steps in each environment are followed by `updates` updates with `batch_size` replayed transitions each,
    once `learning_starts` env steps are done. `lr_end`: factor to which learning rates decay linearly. `lr_solved`: another
    factor for an agent that has solved its environment. `target_rate` and `average_rate`: fraction of the distance to the
    newest weights that the target network and the evaluated average move per update (1: they equal the newest weights).
    """

    hidden: Sequence[int]
    rollout_steps: int
    updates: int
    batch_size: int
    replay_size: int
    learning_starts: int
    lr_end: float
    lr_solved: float
    target_rate: float
    average_rate: float
    num_env_runners: int
    runner_timeout_s: float | None

    def __post_init__(self) -> None:
        for name in CHECKED:
            try:
                check_setting(name, vars(self))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None


def check_setting(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError if the setting `name`, one of `CHECKED`, contradicts other `settings`. Missing settings are not compared."""
    value, envs = settings[name], settings.get("envs")
    if name == "num_env_runners" and envs is not None and not 0 <= value <= envs:
        raise ValueError(f"{value} runners cannot share {envs} environments. Use 0 to {envs} runners, or raise envs.")
    if name == "runner_timeout_s" and value is not None and settings.get("num_env_runners") == 0:
        raise ValueError("there are no runners to time: num_env_runners is 0. Raise num_env_runners, or use null here.")
    if name == "replay_size" and value < (rollout := (envs or 0) * settings.get("rollout_steps", 0)):
        raise ValueError(f"must hold one rollout, {rollout} transitions (envs times rollout_steps), not {value}.")
