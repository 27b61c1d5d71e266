"""Exact record of a trial's first steps, stored in its metadata. `ddl.reproduce` compares another training with it."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ddl.progress import Progress

STEPS = 20
"""Number of recorded steps. Small, because reading the loss synchronises the device."""

METADATA_KEY = "first_steps"
"""Key in a trial's metadata."""


class FirstSteps:
    """Records the first `steps` steps of a trial, or all if there are fewer."""

    def __init__(self, steps: int = STEPS, stacked: int = 1) -> None:
        """`stacked` is the number of trials that are trained as one model."""
        self._left, self._stacked = steps, stacked
        self._steps: list[int] = []
        self._losses: list[str | None] = []
        self._state = ""

    def take(self, progress: Progress) -> dict[str, Any]:
        """Record a step. Returns the metadata after the last recorded step, and {} at every other step.

        Losses are hexadecimal floats, which are exact; None for a step without a loss. The digest is of the state after the last
        recorded step. Collective: if several processes train a trial, each has to call it, because gathering the state needs all.
        """
        if self._left == 0 or progress.step == 0:  # step 0 is before any training
            return {}
        self._steps.append(progress.step)
        self._losses.append(None if progress.loss is None else float(progress.loss.item()).hex())
        self._left = 0 if 0 < progress.total_steps <= progress.step else self._left - 1
        if self._left:
            return {}
        self._state = state_digest(progress.state()) if progress.state else ""
        return self.so_far()

    def so_far(self) -> dict[str, Any]:
        """The metadata of the steps recorded so far, for a trial that ends within its first steps."""
        stacked = {"stacked": self._stacked} if self._stacked > 1 else {}
        record = {"steps": self._steps, "losses": self._losses, "state": self._state, "threads": torch.get_num_threads()}
        return {METADATA_KEY: record | stacked}

    @property
    def unfinished(self) -> bool:
        """True if some steps are recorded, but `take` has not returned them yet."""
        return bool(self._steps) and self._left > 0


def state_digest(state: Mapping[str, Any]) -> str:
    """SHA-256 of all tensors in a state: weights and optimiser moments. Plain numbers are left out: some are times."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(state, ""):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(value: Any, name: str) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    if isinstance(value, Mapping):
        return [item for key in sorted(value) for item in _tensors(value[key], f"{name}/{key}")]
    if isinstance(value, list | tuple):
        return [item for index, element in enumerate(value) for item in _tensors(element, f"{name}/{index}")]
    return []
