"""A multilayer perceptron for rows of numbers."""

from collections.abc import Sequence

from torch import Tensor, nn

from ddl.models.dropout import Dropout


class Standardise(nn.Module):
    """Maps rows [n, columns] of any dtype to fp32 with mean 0 and standard deviation 1 per column.

    `mean` and `std` are fp64 [columns]. They are non-persistent buffers: checkpoints do not contain them. The difference
    to the mean is computed in fp64, because columns such as times have a mean that is large compared with their deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        return ((rows.double() - self.mean) / self.std).float()


class RestoreUnit(nn.Module):
    """Maps standardised values [n] to fp64 values with the mean `mean` and the standard deviation `std`."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, values: Tensor) -> Tensor:
        return values.double() * self.std + self.mean


class MLP(nn.Module):
    """Maps rows [n, columns] to [n, outputs], or to [n] if `outputs` is 0.

    The rows are standardised. Each of the layers of `hidden` units has a ReLU and dropout after it; without any, the map is linear.
    """

    def __init__(self, standardise: Standardise, hidden: Sequence[int], dropout: float, outputs: int):
        super().__init__()
        width = len(standardise.mean)
        layers: list[nn.Module] = [standardise]
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), Dropout(dropout)]
            width = units
        layers.append(nn.Linear(width, outputs or 1))
        self.layers = nn.Sequential(*layers)
        self._single = not outputs

    def forward(self, rows: Tensor) -> Tensor:
        outputs = self.layers(rows)
        return outputs.squeeze(1) if self._single else outputs
