"""Examples of a mapping from images to images: what is given and what is wanted."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """`given` and `wanted` are uint8 [n, channels, height, width] each, of the same n, height and width, on the device."""

    given: Tensor
    wanted: Tensor

    def __len__(self) -> int:
        return len(self.wanted)

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        return self.given[indices], self.wanted[indices]
