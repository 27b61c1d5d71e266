"""A small U-Net (Ronneberger et al. 2015, arXiv:1505.04597), and the patch discriminator for training it adversarially."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddl.models.downsampling import halved_side


class UNet(nn.Module):
    """Maps images [n, channels, size, size] in 0..1 to images [n, outputs, size, size]; `channels` is 1 or `outputs`.

    The output is the input plus a residual (Zhang et al. 2017, arXiv:1608.03981) that is zero initially; in evaluation it is clamped
    to 0..1. Each resolution has two 3x3 convolutions with batch normalisation and ReLU. Max pooling (2x2) leads down, bilinear
    upsampling leads up, with skip connections. Unlike the paper's, the convolutions are padded and keep the size. Raises
    ValueError if `size` is not divisible by 2^(len(`widths`) - 1).
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
        skips: list[Tensor] = []
        features = images
        for index, block in enumerate(self.down):
            features = block(self.pool(features) if index else features)
            skips.append(features)
        skips.pop()
        for block in self.up:
            features = block(torch.cat([self.enlarge(features), skips.pop()], dim=1))
        outputs = images + self.last(features)
        return outputs if self.training else outputs.clamp(0, 1)


def _block(before: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, width):
        # Batch normalisation subtracts the mean, and with it any bias.
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


class PatchDiscriminator(nn.Module):
    """Discriminator logits of overlapping patches (pix2pix: Isola et al. 2017, arXiv:1611.07004, section 3.2.2).

    Maps the condition and the image, concatenated to [n, channels, size, size], to logits [n, 1, size / 4, size / 4]. It suits small
    images: two convolutions of stride 2 and two of stride 1 give a receptive field of 22 x 22 pixels. It has no batch
    normalisation, because real and generated images share a batch.
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
