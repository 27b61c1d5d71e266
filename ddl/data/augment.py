"""Random augmentation of whole batches of images on their own device."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Ranges of a random affine transform. Each image of a batch gets its own values, uniformly distributed.

    `zoom`: image sides are scaled by 1/(1 + z), z in +-zoom. `rotation`: radians, +-. `translation`: fraction of the side, +-,
    in each direction. `flip`: probability of a left-right flip. `fill`: what pixels from outside the image are, its reflection, the
    nearest pixel of its border, or 0. `interpolation`: between the four nearest pixels, or none. All parts are one resampling, so
    nothing is blurred twice.
    """

    zoom: float
    rotation: float
    translation: float
    flip: float
    fill: Literal["reflection", "border", "zeros"] = "reflection"
    interpolation: Literal["bilinear", "nearest"] = "bilinear"

    def __call__(self, images: Tensor) -> Tensor:
        """Transforms floating-point images [n, c, h, w], with torch's global generator of their device."""
        if self == STRENGTHS["none"]:
            return images
        grid = F.affine_grid(self._inverse(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode=self.interpolation, padding_mode=self.fill, align_corners=False)

    def _inverse(self, images: Tensor) -> Tensor:
        """[n, 2, 3]: maps output coordinates to the input coordinates of the pixel (both -1..1)."""
        n, _, height, width = images.shape
        draw = torch.rand(5, n, device=images.device, dtype=torch.float32) * 2 - 1
        scale = 1 + self.zoom * draw[0]
        angle = self.rotation * draw[1]
        mirror = torch.where(draw[4] < 2 * self.flip - 1, -1.0, 1.0)
        cos, sin = scale * angle.cos(), scale * angle.sin()
        # Coordinates are in half sides: rotating an oblong image needs the aspect ratio, and a shift by the whole side is 2.
        aspect = height / width
        rows = (
            torch.stack([mirror * cos, -mirror * sin * aspect, 2 * self.translation * draw[2]], dim=1),
            torch.stack([sin / aspect, cos, 2 * self.translation * draw[3]], dim=1),
        )
        return torch.stack(rows, dim=1).to(images.dtype)


STRENGTHS = {
    "none": Augmentation(zoom=0.0, rotation=0.0, translation=0.0, flip=0.0),
    "light": Augmentation(zoom=0.1, rotation=0.2 * math.pi, translation=0.1, flip=0.0),
    "aggressive": Augmentation(zoom=0.5, rotation=math.pi, translation=0.3, flip=0.5),
}
"""The three augmentation strengths of the study (Karshenas, section 1)."""


@dataclass(frozen=True, eq=False)
class FlipAndShift:
    """Mirrors images from left to right, and shifts them by whole pixels: the augmentation of Jordan 2024, arXiv:2404.00498.

    `flips`: `alternating` mirrors each image in every other epoch, beginning with the first one for those of `first`, bool [n], one
    for each training image; `random` mirrors with probability 1/2; `none` never. `pixels`: largest shift in each direction.
    Pixels from outside the image are reflections of those next to its border.
    """

    flips: Literal["alternating", "random", "none"]
    pixels: int
    first: Tensor

    def __call__(self, images: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """Transforms floating-point images [n, c, h, w] at these positions of the training split, int64 [n], in an epoch, from 0.

        Draws from torch's global generator of their device.
        """
        if self.flips == "alternating":
            images = _mirrored(images, self.first[positions] == (epoch % 2 == 0))
        elif self.flips == "random":
            images = _mirrored(images, torch.rand(len(images), device=images.device) < 0.5)
        return _shifted(images, self.pixels) if self.pixels else images


def _mirrored(images: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def _shifted(images: Tensor, pixels: int) -> Tensor:
    n, channels, height, width = images.shape
    padded = F.pad(images, (pixels,) * 4, mode="reflect")
    down, right = torch.randint(0, 2 * pixels + 1, (2, n, 1), device=images.device)
    rows = (down + torch.arange(height, device=images.device)).view(n, 1, height, 1)
    columns = (right + torch.arange(width, device=images.device)).view(n, 1, 1, width)
    tall = padded.gather(2, rows.expand(n, channels, height, padded.shape[3]))
    return tall.gather(3, columns.expand(n, channels, height, width))
