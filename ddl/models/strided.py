"""DCGAN-style encoder and decoder with strided convolutions (Radford et al. 2016, arXiv:1511.06434).

The optional dense layer follows InfoGAN on MNIST (Chen et al. 2016, arXiv:1606.03657, table 1).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ddl.models.downsampling import halved_side


class StridedEncoder(nn.Module):
    """Maps images [n, channels, size, size] to [n, outputs].

    4x4 convolutions of stride 2, then `convolutions` 3x3 convolutions, a dense layer of `dense` units (0: none) and a linear
    output; leaky ReLU after each layer but the last. It has no batch normalisation: a discriminator sees real and generated images in
    one batch, whose statistics would leak between them. Raises ValueError if `size` is not divisible by 2^len(`widths`).
    """

    def __init__(self, channels: int, size: int, widths: Sequence[int], dense: int, outputs: int, convolutions: int = 0):
        super().__init__()
        side = halved_side(size, len(widths))
        layers: list[nn.Module] = []
        for before, width in zip([channels, *widths], widths, strict=False):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.LeakyReLU(0.2)]
        layers.append(nn.Flatten())
        flat = widths[-1] * side * side
        if dense:
            layers += [nn.Linear(flat, dense), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(dense or flat, outputs))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class StridedDecoder(nn.Module):
    """Maps latent vectors [n, latent] to images [n, channels, size, size] in 0..1, mirroring `StridedEncoder`.

    A dense layer of `dense` units (0: none), a linear layer, `convolutions` 3x3 convolutions at the smallest size, then transposed
    convolutions with `widths` in reverse; batch normalisation and ReLU after each layer but the last, which has a sigmoid.
    """

    def __init__(self, latent: int, dense: int, channels: int, size: int, widths: Sequence[int], convolutions: int = 0):
        super().__init__()
        side = halved_side(size, len(widths))
        layers: list[nn.Module] = [nn.Linear(latent, dense, bias=False), nn.BatchNorm1d(dense), nn.ReLU()] if dense else []
        layers += [
            nn.Linear(dense or latent, widths[-1] * side * side, bias=False),
            nn.Unflatten(1, (widths[-1], side, side)),
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
        ]
        for _ in range(convolutions):
            layers += [nn.Conv2d(widths[-1], widths[-1], 3, padding=1, bias=False), nn.BatchNorm2d(widths[-1]), nn.ReLU()]
        for width, after in zip(widths[::-1], widths[-2::-1], strict=False):
            layers += [nn.ConvTranspose2d(width, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[0], channels, 4, stride=2, padding=1), nn.Sigmoid())

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)
