"""The U-Net (Ronneberger et al. 2015, arXiv:1505.04597), small: from an image to an image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddl.models.downsampling import halved_side


class UNet(nn.Module):
    """Images in 0..1, [n, channels, size, size], to the same, [n, outputs, size, size]; `channels` is 1 or `outputs`.

    What it computes is added to what it is given (residual learning: Zhang et al. 2017, arXiv:1608.03981), so it begins as a copy
    and need not learn that first; in evaluation the sum is cut off at 0 and 1.

    Two 3x3 convolutions at each resolution, batch-normalised and with ReLU; 2x2 max pooling between them on the way down, bilinear
    doubling on the way up, where what had that resolution before is seen again. Convolutions are padded, so sizes are kept, where
    the paper cuts edges off. Raises ValueError where `size` cannot be halved so often.
    """

    def __init__(self, channels: int, outputs: int, size: int, widths: Sequence[int]):
        super().__init__()
        halved_side(size, len(widths) - 1)
        self.down = nn.ModuleList(_block(before, width) for before, width in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(_block(below + width, width) for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.last = nn.Conv2d(widths[0], outputs, 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        kept: list[Tensor] = []
        features = images
        for number, block in enumerate(self.down):
            features = block(self.pool(features) if number else features)
            kept.append(features)
        kept.pop()
        for block in self.up:
            features = block(torch.cat([self.enlarge(features), kept.pop()], dim=1))
        changed = images + self.last(features)
        return changed if self.training else changed.clamp(0, 1)


def _block(before: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, width):
        # A bias before a batch normalisation would be subtracted again.
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


class PatchDiscriminator(nn.Module):
    """Scores [n, 1, size / 4, size / 4] of overlapping patches of an image (pix2pix: Isola et al. 2017, arXiv:1611.07004, section 3.2.2).

    Given are the condition and the image as one, [n, channels, size, size]. For small images: two convolutions of stride 2 and
    two of stride 1, so that a score sees 22 x 22 pixels. Without batch normalisation, since real and generated images are in
    one batch.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
