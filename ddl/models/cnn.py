"""The small convolutional network of the classification sweeps."""

from collections.abc import Sequence

from torch import Tensor, nn

from ddl.models.dropout import Dropout
from ddl.models.initialisation import initialise_glorot, initialise_zeros


class ConvNet(nn.Module):
    """Blocks of 3x3 convolutions, each ending in 2x2 max pooling, then one dense layer and the logits.

    Maps images [n, channels, size, size] to logits [n, classes]. ReLU and dropout follow every layer but the last.
    The first `batch_norm_layers` convolutions have batch normalisation before their ReLU. `initialisation` is `glorot`
    (uniform, zero biases: the Keras default; Glorot & Bengio 2010) or `zeros`.

    The study shows its baseline (figure 7) without widths, so `widths`, `convolutions` (per block) and `dense` are arguments.
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
            for number in range(convolutions):
                # Batch normalisation subtracts the mean, and with it any bias.
                normalised = count < batch_norm_layers
                layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not normalised))
                if normalised:
                    layers.append(nn.BatchNorm2d(width))
                if number < convolutions - 1:
                    layers += [nn.ReLU(), Dropout(dropout)]
                else:  # ReLU after pooling has the same result as before it, from a quarter of the numbers
                    layers += [Dropout(dropout), nn.MaxPool2d(2), nn.ReLU()]
                channels, count = width, count + 1
            size //= 2
        self.features = nn.Sequential(*layers)
        hidden = nn.Linear(channels * size * size, dense)
        self.head = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), Dropout(dropout), nn.Linear(dense, classes))
        initialise = initialise_glorot if initialisation == "glorot" else initialise_zeros
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
