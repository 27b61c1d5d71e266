"""Random affine augmentation of whole batches on their own device."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Ranges of a random affine transform. Each image of a batch gets its own values, uniformly distributed.

    `zoom`: image sides are scaled by 1/(1 + z), z in +-zoom. `rotation`: radians, +-. `translation`: fraction of the side, +-,
    in each direction. `flip`: probability of a left-right flip. Pixels from outside the image are reflections. All parts are
    one bilinear resampling, so nothing is blurred twice.
    """

    zoom: float
    rotation: float
    translation: float
    flip: float

    def __call__(self, images: Tensor) -> Tensor:
        """Transforms floating-point images [n, c, h, w], with torch's global generator of their device."""
        if self == STRENGTHS["none"]:
            return images
        grid = F.affine_grid(self._inverse(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

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
