"""Score of an agent during training: its episodes, its best parameters, and if and when it solved the environment."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ddl.progress import State

RECENT = 50
"""Episodes in the mean training return, as in the study's figure 6."""


@dataclass
class AgentScore:
    """Score of one agent.

    `best` is the highest mean greedy return so far (0 before the first evaluation); `best_parameters` reached it. `solved` is
    None until the agent solves its environment, then `train/env_steps_to_solved`, `train/episodes_to_solved` and
    `time/solved_s`. `diverged` is the reason why the agent diverged, or "".
    """

    best_parameters: Tensor
    best: float = 0.0
    episodes: int = 0
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    solved: dict[str, float] | None = None
    diverged: str = ""

    @property
    def recent_return(self) -> float:
        """Mean return of the last `RECENT` training episodes; 0 before the first one has ended."""
        return sum(self.recent) / len(self.recent) if self.recent else 0.0

    def add(self, episode_return: int) -> None:
        """Count a training episode."""
        self.episodes += 1
        self.recent.append(episode_return)

    def solve(self, env_steps: int, seconds: float) -> None:
        """Record that the agent solved the environment after this many env steps and seconds."""
        self.solved = solved_metrics(env_steps, self.episodes, seconds)

    def metrics(self, env_steps: int, mean: float | None) -> dict[str, float]:
        """Metrics after `env_steps`; `mean` is the greedy return, None if it was not measured."""
        metrics = {"train/env_steps": float(env_steps), "train/episodes": float(self.episodes)}
        if self.recent:
            metrics["train/episode_return"] = self.recent_return
        if mean is not None:
            metrics |= {"val/episode_return": mean, "val/solved": float(self.solved is not None)}
        return metrics | (self.solved or {})

    def state(self) -> State:
        """State for a checkpoint."""
        return {name: getattr(self, name) for name in _STORED} | {"recent": list(self.recent)}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "AgentScore":
        """The score with this `state`."""
        return cls(**{name: state[name] for name in _STORED}, recent=deque(state["recent"], maxlen=RECENT))


_STORED = ("best_parameters", "best", "episodes", "solved", "diverged")


def solved_metrics(env_steps: int, episodes: int, seconds: float) -> dict[str, float]:
    """Metrics of the moment at which an agent solved the environment."""
    return {"train/env_steps_to_solved": float(env_steps), "train/episodes_to_solved": float(episodes), "time/solved_s": seconds}
