"""What a representation is worth: a linear classifier on top of it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ITERATIONS = 200
PENALTY = 1e-4
"""Of the squared weights, on standardised inputs: so little that it only keeps separable classes from growing without end."""


def fit_linear_classifier(representations: Tensor, classes: Tensor, count: int) -> Callable[[Tensor], Tensor]:
    """A multinomial logistic regression fitted to representations [n, d] and their classes (int64 [n], below `count`).

    Full batch, in float64, by L-BFGS with a strong Wolfe line search from zero weights: convex, so nothing is drawn and it is the
    same each time. Gives a function from representations [m, d] to predicted classes [m].
    """
    mean, std = representations.double().mean(0), representations.double().std(0)
    std = torch.where(std > 0, std, 1.0)
    inputs = (representations.double() - mean) / std
    weights = torch.zeros(inputs.shape[1], count, device=inputs.device, dtype=torch.float64, requires_grad=True)
    biases = torch.zeros(count, device=inputs.device, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, biases], max_iter=ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(inputs @ weights + biases, classes) + PENALTY * weights.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)

    def predict(others: Tensor) -> Tensor:
        with torch.no_grad():
            return ((others.double() - mean) / std @ weights + biases).argmax(1)

    return predict
