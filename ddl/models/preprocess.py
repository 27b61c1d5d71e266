"""Preprocessing modules that turn stored pixels into model inputs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Normalise(nn.Module):
    """Maps images [n, c, h, w] in 0..255 of any dtype to fp32 with mean 0 and standard deviation 1 per channel.

    `mean` and `std` are per channel, for pixels in 0..1. They are non-persistent buffers: checkpoints do not contain them.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("shift", 255 * torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(-1, 1, 1)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - self.shift) * self.scale


class Resize(nn.Module):
    """Resizes images [n, c, h, w] of any dtype to fp32 [n, c, size, size], bilinearly, with antialiasing when shrinking."""

    def __init__(self, size: int):
        super().__init__()
        self._size = (size, size)

    def forward(self, images: Tensor) -> Tensor:
        images = images.float()
        if images.shape[-2:] == self._size:
            return images
        return F.interpolate(images, self._size, mode="bilinear", antialias=images.shape[-1] > self._size[1])


class ScaleToUnit(nn.Module):
    """Resizes images [n, c, h, w] in 0..255 of any dtype to fp32 [n, c, size, size] in 0..1 (`Resize`)."""

    def __init__(self, size: int):
        super().__init__()
        self.resize = Resize(size)

    def forward(self, images: Tensor) -> Tensor:
        return self.resize(images) / 255
