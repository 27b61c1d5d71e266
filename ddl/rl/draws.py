"""Random numbers of stacked members: each member's follow from its own seed, whoever it is stacked with."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BLOCK = 64
"""Steps drawn at once: a generator costs as much to start as some hundred numbers."""


class UniformDraws:
    """Uniform numbers in [0, 1) by (member's seed, purpose, step), in any order of steps and without a state to keep.

    Philox (Salmon et al. 2011) is counter-based: the seed and the purpose are its key, the block of steps its counter.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, width: int, device: torch.device):
        self._seeds, self._width, self._device = list(seeds), width, device
        self._purpose = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest())
        self._block = -1
        self._numbers = torch.empty(0)

    def at(self, step: int) -> Tensor:
        """[members, width] for this step, fp32."""
        block, row = divmod(step, BLOCK)
        if block != self._block:
            drawn = np.stack([self._draw(seed, block) for seed in self._seeds], axis=1)
            self._block, self._numbers = block, torch.from_numpy(drawn).to(self._device)
        return self._numbers[row]

    def _draw(self, seed: int, block: int) -> np.ndarray:
        bits = np.random.Philox(key=np.array([seed, self._purpose], dtype=np.uint64), counter=[0, 0, 0, block])
        return np.random.Generator(bits).random((BLOCK, self._width), dtype=np.float32)
