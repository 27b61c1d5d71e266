"""What a trial's first steps came to, to the bit: kept in its record, so that another run of it can be held against them."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ddl.progress import Progress

STEPS = 20
"""Each waits for the device once, so not more."""

METADATA_KEY = "first_steps"
"""The name in a trial's metadata."""


class FirstSteps:
    """Takes each `Progress` of a trial that begins at its beginning, until it has `steps` of them or there are no more."""

    def __init__(self, steps: int = STEPS) -> None:
        self._left = steps
        self._steps: list[int] = []
        self._losses: list[str | None] = []
        self._state = ""

    def take(self, progress: Progress) -> dict[str, Any]:
        """The fact, once it is whole; until then, and after, nothing.

        The losses as hexadecimal floats, which are exact (None where a step has none), and the digest of the state after
        the last of these steps. Where several processes train a trial, every one takes part: its state is all theirs.
        """
        if self._left == 0 or progress.step == 0:  # before the first step nothing was done
            return {}
        self._steps.append(progress.step)
        self._losses.append(None if progress.loss is None else float(progress.loss.item()).hex())
        self._left = 0 if progress.step >= progress.total_steps else self._left - 1
        if self._left:
            return {}
        self._state = state_digest(progress.state())
        return self.so_far()

    def so_far(self) -> dict[str, Any]:
        """The fact with what was taken, which for a trial that ended within its first steps is all there is."""
        return {METADATA_KEY: {"steps": self._steps, "losses": self._losses, "state": self._state, "threads": torch.get_num_threads()}}

    @property
    def unfinished(self) -> bool:
        """Some steps were taken, and not yet told of."""
        return bool(self._steps) and self._left > 0


def state_digest(state: Mapping[str, Any]) -> str:
    """The sha256 of a state's tensors: weights, an optimiser's moments. Its plain numbers may be a clock's, so they are left out."""
    found = hashlib.sha256()
    for name, tensor in _tensors(state, ""):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _tensors(value: Any, name: str) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    if isinstance(value, Mapping):
        return [found for key in sorted(value) for found in _tensors(value[key], f"{name}/{key}")]
    if isinstance(value, list | tuple):
        return [found for index, item in enumerate(value) for found in _tensors(item, f"{name}/{index}")]
    return []
