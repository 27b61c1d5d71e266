"""The small convolutional network that the classification sweeps vary."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Blocks of 3x3 convolutions, each block ended by 2x2 max pooling, then one dense layer and the class scores.

    Images [n, channels, size, size] to logits [n, classes]. ReLU follows every layer but the last; `dropout` follows
    every ReLU; batch normalisation stands between convolution and ReLU in the first `batch_norm_layers` convolutions.
    `initialisation` is `glorot` (uniform, zero biases: what Keras does unasked; Glorot & Bengio 2010) or `zeros`.

    The study draws its baseline (figure 7) without naming widths, so `widths`, `convolutions` (per block) and `dense`
    are free.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        classes: int,
        widths: Sequence[int],
        convolutions: int,
        dense: int,
        dropout: float,
        batch_norm_layers: int,
        initialisation: str,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        count = 0
        for width in widths:
            for _ in range(convolutions):
                # A bias before a batch normalisation would be subtracted again.
                normalised = count < batch_norm_layers
                layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not normalised))
                if normalised:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU())
                if dropout:
                    layers.append(nn.Dropout(dropout))
                channels, count = width, count + 1
            layers.append(nn.MaxPool2d(2))
            size //= 2
        self.features = nn.Sequential(*layers)
        head: list[nn.Module] = [nn.Flatten(), nn.Linear(channels * size * size, dense), nn.ReLU()]
        if dropout:
            head.append(nn.Dropout(dropout))
        self.head = nn.Sequential(*head, nn.Linear(dense, classes))
        for module in itertools.chain(self.features, self.head):
            if isinstance(module, nn.Conv2d | nn.Linear):
                initialise = nn.init.xavier_uniform_ if initialisation == "glorot" else nn.init.zeros_
                initialise(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
