"""What stacked members have lived through, to learn from again."""

from typing import Any

import torch
from torch import Tensor

from ddl.progress import State


class ReplayBuffer:
    """A ring of transitions for each member, all filled alike.

    A transition is one row: observation, next observation, action, reward, terminated. The next observation is the true one,
    also where the episode ended and another began.
    """

    def __init__(self, members: int, capacity: int, observation_size: int, device: torch.device):
        self._size, self._capacity, self._device = observation_size, capacity, device
        self._rows = torch.zeros(members, capacity, row_width(observation_size), device=device)
        self._first = torch.arange(members, device=device).unsqueeze(1) * capacity
        self._written = 0

    def __len__(self) -> int:
        return min(self._written, self._capacity)

    def add(self, rows: Tensor) -> None:
        """`transition_rows` [members, n, width], n at most the capacity; the oldest make room."""
        at, n = self._written % self._capacity, rows.shape[1]
        head = min(n, self._capacity - at)
        self._rows[:, at : at + head] = rows[:, :head]
        self._rows[:, : n - head] = rows[:, head:]
        self._written += n

    def sample(self, uniforms: Tensor) -> "TransitionBatch":
        """A transition for each number in [0, 1) of `uniforms` [members, items], drawn with replacement."""
        indices = (uniforms * len(self)).long() + self._first
        return TransitionBatch(self._rows.flatten(0, 1).index_select(0, indices.flatten()).unflatten(0, indices.shape), self._size)

    def state(self) -> State:
        return {"rows": self._rows[:, : len(self)], "written": self._written}

    def load(self, state: dict[str, Any]) -> None:
        self._rows[:, : state["rows"].shape[1]] = state["rows"].to(self._device)
        self._written = state["written"]


class TransitionBatch:
    """Rows [members, items, width] by their parts."""

    def __init__(self, rows: Tensor, observation_size: int):
        self._size, n = observation_size, observation_size
        self.observations = rows[..., :n].transpose(1, 2)
        """[members, observation, items]; likewise `next_observations`."""
        self.next_observations = rows[..., n : 2 * n].transpose(1, 2)
        self.actions = rows[..., 2 * n].long()
        """[members, items]; likewise `rewards` and `terminated` (0 or 1)."""
        self.rewards = rows[..., 2 * n + 1]
        self.terminated = rows[..., 2 * n + 2]


def row_width(observation_size: int) -> int:
    return 2 * observation_size + 3


def transition_rows(observations: Tensor, next_observations: Tensor, actions: Tensor, terminated: Tensor) -> Tensor:
    """[members, items, width] from [members, observation, items] and [members, items]; the reward is 1 a step."""
    last = torch.stack((actions.float(), torch.ones_like(actions, dtype=torch.float32), terminated.float()), dim=2)
    return torch.cat((observations.transpose(1, 2), next_observations.transpose(1, 2), last), dim=2)
