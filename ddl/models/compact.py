"""A small convolutional network that learns CIFAR-10 in few epochs (airbench94 of Jordan 2024, arXiv:2404.00498)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 2
"""Side in pixels of the patches that the stem maps to channels."""
VARIANCE_FLOOR = 5e-4
"""Added to the variance of each whitened direction, so that directions without variance are not amplified to noise."""
LOGIT_SCALE = 1 / 9
"""Factor of the last layer's outputs."""
BATCH_NORM_MOMENTUM = 0.4
"""Weight of a batch in the running statistics of batch normalisation."""


def whitening_filters(images: Tensor) -> Tensor:
    """Filters [d, c, 2, 2], d = 4 c, whose outputs on the 2 x 2 patches of `images` [n, c, h, w] are uncorrelated with variance 1.

    They are the eigenvectors of the patches' covariance, largest variance first, divided by their standard deviations (the paper's
    patch-whitening initialisation). Their outputs' variance is v / (v + `VARIANCE_FLOOR`) in a direction of variance v. Computed in float64.
    """
    channels = images.shape[1]
    size = channels * PATCH**2
    patches = F.unfold(images, PATCH).transpose(1, 2).reshape(-1, size).double()
    centred = patches - patches.mean(0)
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    filters = (vectors / (variances + VARIANCE_FLOOR).sqrt()).T.flip(0)
    # An eigenvector's sign is arbitrary. With the largest entry positive, every machine computes the same filters.
    sign = filters.gather(1, filters.abs().argmax(1, keepdim=True)).sign()
    return (filters * sign).float().unflatten(1, (channels, PATCH, PATCH))


class CompactNet(nn.Module):
    """A stem of 2 x 2 patches and blocks of two 3 x 3 convolutions: maps images [n, channels, h, w] to logits [n, classes].

    The stem has the filters of `whitening_filters` and their negatives, which are not trained, and a trained bias; without `whitening`
    it has as many trained filters. A block is convolution, 2 x 2 max pooling, batch normalisation, activation, convolution, batch
    normalisation, activation. The head takes the maximum over all pixels and a linear layer without bias.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int], whitening: Tensor | None, activation: Literal["gelu", "relu"]):
        super().__init__()
        activate = nn.GELU if activation == "gelu" else nn.ReLU
        width = 2 * channels * PATCH**2
        stem = nn.Conv2d(channels, width, PATCH)
        if whitening is not None:
            stem.weight = nn.Parameter(torch.cat([whitening, -whitening]), requires_grad=False)
            nn.init.zeros_(stem.bias)  # type: ignore[arg-type]
        layers: list[nn.Module] = [stem, activate()]
        for after in widths:
            layers += [_convolution(width, after), nn.MaxPool2d(2), nn.BatchNorm2d(after, momentum=BATCH_NORM_MOMENTUM), activate()]
            layers += [_convolution(after, after), nn.BatchNorm2d(after, momentum=BATCH_NORM_MOMENTUM), activate()]
            width = after
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return LOGIT_SCALE * self.head(self.features(images).amax((2, 3)))


def _convolution(before: int, after: int) -> nn.Conv2d:
    """A 3 x 3 convolution whose first outputs copy its inputs (the paper's identity initialisation)."""
    layer = nn.Conv2d(before, after, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[: min(before, after)])
    return layer


class MirrorMean(nn.Module):
    """The mean of a network's logits for an image and for its mirror image: test-time augmentation without crops."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return (self.network(images) + self.network(images.flip(3))) / 2
