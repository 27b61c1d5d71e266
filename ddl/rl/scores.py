"""What is known of each member of a stack while it trains: its episodes, its best weights, whether it has solved the task."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ddl.progress import State

RECENT = 50
"""Episodes in the mean return (the study's figure 6)."""


@dataclass
class AgentScore:
    """One member's. `best` is the highest mean greedy return so far (0 before any), `best_parameters` [n] the weights that reached it.

    `solved`: None, or when: the metrics `train/env_steps_to_solved`, `train/episodes_to_solved` and `time/solved_s`.
    `diverged`: why, or "".
    """

    best_parameters: Tensor
    best: float = 0.0
    episodes: int = 0
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    solved: dict[str, float] | None = None
    diverged: str = ""

    @property
    def recent_return(self) -> float:
        """Mean return of the last `RECENT` training episodes; 0 before the first has ended."""
        return sum(self.recent) / len(self.recent) if self.recent else 0.0

    def add(self, episode_return: int) -> None:
        self.episodes += 1
        self.recent.append(episode_return)

    def solve(self, env_steps: int, seconds: float) -> None:
        self.solved = {
            "train/env_steps_to_solved": float(env_steps),
            "train/episodes_to_solved": float(self.episodes),
            "time/solved_s": seconds,
        }

    def metrics(self, env_steps: int, mean: float | None) -> dict[str, float]:
        """As the ledger names them; `mean` is the greedy return just measured, if it was."""
        found = {"train/env_steps": float(env_steps), "train/episodes": float(self.episodes)}
        if self.recent:
            found["train/episode_return"] = self.recent_return
        if mean is not None:
            found |= {"val/episode_return": mean, "val/solved": float(self.solved is not None)}
        return found | (self.solved or {})

    def state(self) -> State:
        return {name: getattr(self, name) for name in _KEPT} | {"recent": list(self.recent)}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "AgentScore":
        kept = {name: state[name] for name in _KEPT}
        return cls(**kept, recent=deque(state["recent"], maxlen=RECENT))


_KEPT = ("best_parameters", "best", "episodes", "solved", "diverged")
