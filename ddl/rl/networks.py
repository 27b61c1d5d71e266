"""Action-value networks of vectorised agents: one multi-layer perceptron per agent, one batched product per layer.

The parameters of all agents are one tensor [agents, n], so that the optimiser needs a few elementwise operations for all of
them; one agent runs the same code. A batched product gives every agent bit for bit the result that it would get alone.

The gradient is written out: for networks this small the overhead of autograd exceeds the arithmetic.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ddl.devices import derive_seed


class VectorisedQNetwork:
    """Maps observations [agents, inputs, items] to action values [agents, actions, items], with ReLU between layers.

    Q = value_scale * (offset + f): f is the output of the layers and starts at 0, because the last layer starts at 0.
    `value_scale` [agents, 1, 1] is the highest possible value, 1 / (1 - gamma) for rewards of at most 1, so targets are of
    order one for every gamma. With `optimistic` the offset is 1: every action starts at the highest value (Sutton and Barto
    2018, 2.6), and an agent learns from failures only instead of raising its values step by step. Otherwise the offset is 0.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], actions: int, value_scale: Tensor, optimistic: bool):
        sizes = [inputs, *hidden, actions]
        self._shapes = [shape for a, b in pairwise(sizes) for shape in ((b, a), (b, 1))]
        self.parameters_per_agent = sum(a * b for a, b in self._shapes)
        self.value_scale = value_scale
        self._offset = 1.0 if optimistic else 0.0

    def initial(self, seeds: Sequence[int]) -> Tensor:
        """Initial parameters [agents, n], each agent's from its own seed: uniform in +-1/sqrt(inputs) per layer, 0 in the last."""
        flat = torch.zeros(len(seeds), self.parameters_per_agent)
        for agent, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(derive_seed(seed, "weights", 0))
            for index, layer in enumerate(self.layers(flat[agent : agent + 1])[:-2]):
                bound = 1 / math.sqrt(self._shapes[index - index % 2][1])
                layer.uniform_(-bound, bound, generator=generator)
        return flat

    def layers(self, flat: Tensor) -> list[Tensor]:
        """Views of `flat` [agents, n]: weights [agents, outputs, inputs] and biases [agents, outputs, 1], layer by layer."""
        views, start = [], 0
        for a, b in self._shapes:
            views.append(flat[:, start : start + a * b].view(-1, a, b))
            start += a * b
        return views

    def values(self, layers: Sequence[Tensor], observations: Tensor) -> Tensor:
        """Action values [agents, actions, items] of `observations` [agents, inputs, items]."""
        return self.to_values(self.activations(layers, observations)[-1])

    def to_values(self, outputs: Tensor) -> Tensor:
        """Action values of the outputs f [agents, actions, items]."""
        return (outputs + self._offset) * self.value_scale

    def to_outputs(self, values: Tensor) -> Tensor:
        """Outputs f that give these `values` [agents, items]."""
        return values / self.value_scale.squeeze(-1) - self._offset

    @staticmethod
    def activations(layers: Sequence[Tensor], observations: Tensor) -> list[Tensor]:
        """Inputs of every layer, then the outputs f."""
        activations = [observations]
        last = len(layers) // 2 - 1
        for index in range(last + 1):
            sums = torch.baddbmm(layers[2 * index + 1], layers[2 * index], activations[-1])
            activations.append(sums.relu_() if index < last else sums)
        return activations

    @staticmethod
    def gradient(layers: Sequence[Tensor], activations: Sequence[Tensor], output_gradient: Tensor, into: Sequence[Tensor]) -> None:
        """Write the gradient of each parameter into the views `into`, given the loss's gradient with respect to f.

        This is the chain rule, from the last layer to the first. No agent's loss affects another agent's gradient.
        """
        for index in range(len(layers) // 2 - 1, -1, -1):
            inputs = activations[index]
            into[2 * index].copy_(torch.bmm(output_gradient, inputs.transpose(1, 2)))
            into[2 * index + 1].copy_(output_gradient.sum(2, keepdim=True))
            if index:
                input_gradient = torch.bmm(layers[2 * index].transpose(1, 2), output_gradient)
                output_gradient = torch.ops.aten.threshold_backward(input_gradient, inputs, 0)
