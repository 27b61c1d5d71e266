"""Random numbers of vectorised agents: each agent's numbers depend on its own seed only, not on the other agents."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BLOCK = 64
"""Steps generated at once: starting a generator costs as much as a few hundred numbers."""


class UniformDraws:
    """Uniform numbers in [0, 1) by (agent's seed, purpose, step). Steps can be read in any order, and there is no state to store.

    Philox (Salmon et al. 2011) is counter-based: the seed and the purpose are its key, the block of steps is its counter.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, width: int, device: torch.device):
        self._seeds, self._width, self._device = list(seeds), width, device
        self._purpose = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest())
        self._block = -1
        self._numbers = torch.empty(0)

    def at(self, step: int) -> Tensor:
        """Numbers of one step [agents, width], fp32."""
        block, row = divmod(step, BLOCK)
        if block != self._block:
            numbers = torch.from_numpy(np.stack([self._generate(seed, block) for seed in self._seeds], axis=1))
            if self._device.type == "cuda":
                numbers = numbers.pin_memory()  # the host waits for a copy from memory that is not pinned
            self._block, self._numbers = block, numbers.to(self._device, non_blocking=True)
        return self._numbers[row]

    def _generate(self, seed: int, block: int) -> np.ndarray:
        bits = np.random.Philox(key=np.array([seed, self._purpose], dtype=np.uint64), counter=[0, 0, 0, block])
        return np.random.Generator(bits).random((BLOCK, self._width), dtype=np.float32)
