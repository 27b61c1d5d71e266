"""Autoencoders of images: dense, convolutional and variational (Karshenas, section 4)."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ddl.models.downsampling import halved_side
from ddl.models.initialisation import initialise_glorot

DARKEST = 1e-3
"""Lowest initial sigmoid output: at a mean of 0 the gradient would vanish."""


class Autoencoder(nn.Module):
    """`encode` maps images [n, c, s, s] in 0..1 to representations [n, latent]; `decode` maps representations to images in 0..1."""

    def __init__(self, encode: nn.Module, decode: nn.Module):
        super().__init__()
        self.encode, self.decode = encode, decode

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))


class VariationalAutoencoder(nn.Module):
    """An autoencoder over a normal distribution of representations (Kingma & Welling 2014, arXiv:1312.6114).

    `encode` returns means and log-variances, [n, 2 x latent]. In training, the representation is sampled from that distribution
    with torch's global generator; in evaluation, it is the mean.
    """

    def __init__(self, encode: nn.Module, decode: nn.Module):
        super().__init__()
        self.encode, self.decode = encode, decode

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (reconstructions, means, log-variances)."""
        mean, log_variance = self.encode(images).float().chunk(2, dim=1)
        sampled = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        return self.decode(sampled), mean, log_variance


class Reconstruction(nn.Module):
    """The reconstructions alone of a `VariationalAutoencoder`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)[0]


def dense_autoencoder(mean: Tensor, down: Sequence[int], latent: int, up: Sequence[int], relu_latent: bool, output: str) -> Autoencoder:
    """The study's AE: dense layers with ReLU, the last with one unit per pixel and the activation `output` (`sigmoid` or `relu`).

    `mean` [c, s, s] in 0..1 is the mean training image, which the decoder returns initially. With a zero start, the first steps
    push the ReLU of some mostly black pixels below zero for every image, and these pixels stay black. `relu_latent` adds a
    ReLU after the representation.
    """
    pixels = mean.numel()
    encoder = nn.Sequential(nn.Flatten(), *_dense([pixels, *down]), *_representation(([pixels, *down])[-1], latent, relu_latent))
    return Autoencoder(initialise_glorot(encoder), _dense_decoder(mean, latent, up, output))


def convolutional_autoencoder(
    mean: Tensor, widths: Sequence[int], latent: int, up: Sequence[int], relu_latent: bool, output: str
) -> Autoencoder:
    """The study's ConvAE: 3x3 convolutions with ReLU, 2x2 max pooling between them, and the decoder of `dense_autoencoder`.

    Raises ValueError if the image size is not divisible by all poolings.
    """
    channels, size = mean.shape[:2]
    side = halved_side(size, len(widths) - 1)
    layers: list[nn.Module] = []
    for index, (before, width) in enumerate(zip([channels, *widths], widths, strict=False)):
        if index:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
    encoder = nn.Sequential(*layers, nn.Flatten(), *_representation(widths[-1] * side * side, latent, relu_latent))
    return Autoencoder(initialise_glorot(encoder), _dense_decoder(mean, latent, up, output))


def _dense(units: Sequence[int]) -> list[nn.Module]:
    return [layer for a, b in itertools.pairwise(units) for layer in (nn.Linear(a, b), nn.ReLU())]


def _representation(units: int, latent: int, relu: bool) -> list[nn.Module]:
    return [nn.Linear(units, latent), nn.ReLU()] if relu else [nn.Linear(units, latent)]


def _dense_decoder(mean: Tensor, latent: int, up: Sequence[int], output: str) -> nn.Module:
    last = nn.Linear(([latent, *up])[-1], mean.numel())
    activation = nn.Sigmoid() if output == "sigmoid" else nn.ReLU()
    decoder = initialise_glorot(nn.Sequential(*_dense([latent, *up]), last, activation, nn.Unflatten(1, mean.shape)))
    with torch.no_grad():
        last.bias.copy_((mean.logit(eps=DARKEST) if output == "sigmoid" else mean).flatten())
    return decoder
