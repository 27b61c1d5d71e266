"""Action-value networks of stacked members: one multi-layer perceptron each, all in one batched product a layer.

A stack's parameters are one tensor [members, n], so an optimiser touches each member's with a few elementwise operations, and
K = 1 is the same code. A batched product gives every member the bits it would get alone.

The gradient is written out. For networks this small autograd takes longer to keep its books than the arithmetic does.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ddl.devices import derive_seed


class VectorisedQNetwork:
    """From observations [members, inputs, items] to action values [members, actions, items], ReLU between layers.

    Q = value_scale * (offset + f), where f is what the layers give and starts at 0 (its last layer starts at 0).
    `value_scale` [members, 1, 1] is the greatest value there can be, 1 / (1 - gamma) where rewards are at most 1. So
    targets are of order one whatever gamma is. With `optimistic` the offset is 1: every action is
    worth the most until it has failed (Sutton and Barto 2018, 2.6), and what is learnt is failure, not the long climb to
    that value. Otherwise the offset is 0.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], actions: int, value_scale: Tensor, optimistic: bool):
        sizes = [inputs, *hidden, actions]
        self._shapes = [shape for a, b in pairwise(sizes) for shape in ((b, a), (b, 1))]
        self.parameters_per_member = sum(a * b for a, b in self._shapes)
        self.value_scale = value_scale
        self._offset = 1.0 if optimistic else 0.0

    def initial(self, seeds: Sequence[int]) -> Tensor:
        """Parameters [members, n], each member's from its own seed: uniform in +-1/sqrt(inputs) a layer, the last one 0."""
        flat = torch.zeros(len(seeds), self.parameters_per_member)
        for member, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(derive_seed(seed, "weights", 0))
            for index, layer in enumerate(self.layers(flat[member : member + 1])[:-2]):
                bound = 1 / math.sqrt(self._shapes[index - index % 2][1])
                layer.uniform_(-bound, bound, generator=generator)
        return flat

    def layers(self, flat: Tensor) -> list[Tensor]:
        """Views of `flat`: weights [members, outputs, inputs] and biases [members, outputs, 1], layer by layer."""
        views, at = [], 0
        for a, b in self._shapes:
            views.append(flat[:, at : at + a * b].view(-1, a, b))
            at += a * b
        return views

    def values(self, layers: Sequence[Tensor], observations: Tensor) -> Tensor:
        return self.to_values(self.activations(layers, observations)[-1])

    def to_values(self, outputs: Tensor) -> Tensor:
        return (outputs + self._offset) * self.value_scale

    def to_outputs(self, values: Tensor) -> Tensor:
        """What the layers must give for these values [members, items]."""
        return values / self.value_scale.squeeze(-1) - self._offset

    @staticmethod
    def activations(layers: Sequence[Tensor], observations: Tensor) -> list[Tensor]:
        """The inputs of every layer, and f last."""
        found = [observations]
        last = len(layers) // 2 - 1
        for index in range(last + 1):
            sums = torch.baddbmm(layers[2 * index + 1], layers[2 * index], found[-1])
            found.append(sums.relu_() if index < last else sums)
        return found

    @staticmethod
    def gradient(layers: Sequence[Tensor], activations: Sequence[Tensor], slope: Tensor, into: Sequence[Tensor]) -> None:
        """Write the gradient of each parameter into the views `into`, where `slope` is the loss's by f.

        The chain rule, layer by layer from the last. Only the layers' own arithmetic is differentiated, so no other
        member's loss ever mixes in.
        """
        for index in range(len(layers) // 2 - 1, -1, -1):
            inputs = activations[index]
            into[2 * index].copy_(torch.bmm(slope, inputs.transpose(1, 2)))
            into[2 * index + 1].copy_(slope.sum(2, keepdim=True))
            if index:
                back = torch.bmm(layers[2 * index].transpose(1, 2), slope)
                slope = torch.ops.aten.threshold_backward(back, inputs, 0)
