"""Replay buffer of vectorised agents."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddl.progress import State


class ReplayBuffer:
    """Ring buffer of transitions for each agent; all agents have the same number of transitions.

    A transition is one row: observation, next observation, action, reward, terminated. The next observation is the last one
    of its episode if the episode ended, not the first one of the next episode.
    """

    def __init__(self, agents: int, capacity: int, observation_size: int, device: torch.device):
        self._size, self._capacity = observation_size, capacity
        self._rows = torch.zeros(agents, capacity, row_width(observation_size), device=device)
        self._first = torch.arange(agents, device=device).unsqueeze(1) * capacity
        self._written = 0

    def __len__(self) -> int:
        return min(self._written, self._capacity)

    def add(self, rows: Tensor) -> None:
        """Add `transition_rows` [agents, n, width], n at most the capacity; they replace the oldest transitions."""
        start, n = self._written % self._capacity, rows.shape[1]
        head = min(n, self._capacity - start)
        self._rows[:, start : start + head] = rows[:, :head]
        self._rows[:, : n - head] = rows[:, head:]
        self._written += n

    def sample(self, uniforms: Tensor) -> "TransitionBatch":
        """A transition for each number in [0, 1) of `uniforms` [agents, items], sampled with replacement."""
        indices = (uniforms * len(self)).long() + self._first
        return TransitionBatch(self._rows.flatten(0, 1).index_select(0, indices.flatten()).unflatten(0, indices.shape), self._size)

    def state(self, agent: int) -> State:
        """State of one agent for a checkpoint; `rows` is a view [1, n, width]."""
        return {"rows": self._rows[agent : agent + 1, : len(self)], "written": self._written}

    def load(self, states: Sequence[State]) -> None:
        """Restore a `state` for each agent, all with the same number of transitions."""
        for agent, state in enumerate(states):
            self._rows[agent, : state["rows"].shape[1]] = state["rows"][0]
        self._written = states[0]["written"]


class TransitionBatch:
    """Columns of transition rows [agents, items, width]."""

    def __init__(self, rows: Tensor, observation_size: int):
        n = observation_size
        self.observations = rows[..., :n].transpose(1, 2)
        """[agents, observation, items]; the same for `next_observations`."""
        self.next_observations = rows[..., n : 2 * n].transpose(1, 2)
        self.actions = rows[..., 2 * n].long()
        """[agents, items]; the same for `rewards` and `terminated` (0 or 1)."""
        self.rewards = rows[..., 2 * n + 1]
        self.terminated = rows[..., 2 * n + 2]


def row_width(observation_size: int) -> int:
    """Number of columns of a transition row."""
    return 2 * observation_size + 3


def transition_rows(observations: Tensor, next_observations: Tensor, actions: Tensor, terminated: Tensor) -> Tensor:
    """Rows [agents, items, width] of observations [agents, observation, items], actions and terminated [agents, items]; the reward is 1."""
    last = torch.stack((actions.float(), torch.ones_like(actions, dtype=torch.float32), terminated.float()), dim=2)
    return torch.cat((observations.transpose(1, 2), next_observations.transpose(1, 2), last), dim=2)
