"""Networks that halve or double an image with every strided convolution, as in DCGAN (Radford et al. 2016, arXiv:1511.06434), with a
dense layer between convolutions and numbers, as in InfoGAN on MNIST (Chen et al. 2016, arXiv:1606.03657, table 1)."""

from collections.abc import Sequence

from torch import Tensor, nn

from ddl.models.downsampling import halved_side


class StridedEncoder(nn.Module):
    """Images [n, channels, size, size] to numbers [n, outputs]: 4x4 convolutions of stride 2, `convolutions` of 3x3 that keep the
    size, a layer of `dense` units (0: none), the numbers; leaky ReLU between them.

    Without batch normalisation: as a discriminator it sees real and generated images in one batch, which would tell them apart
    by their statistics. Raises ValueError where `size` cannot be halved so often.
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
    """The way back, from numbers [n, latent] to images in 0..1: a layer of `dense` units (0: none), `convolutions` of 3x3 at the smallest
    size, then transposed convolutions, `widths` read from their end; batch normalisation and ReLU after each layer but the last, which a
    sigmoid follows."""

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
