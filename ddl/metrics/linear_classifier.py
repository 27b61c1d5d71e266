"""A linear classifier that measures how much class information a representation contains."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ITERATIONS = 200
PENALTY = 1e-4
"""L2 penalty on the weights for standardised inputs, just large enough that the weights of separable classes stay finite."""


def fit_linear_classifier(representations: Tensor, labels: Tensor, classes: int) -> Callable[[Tensor], Tensor]:
    """Fit a multinomial logistic regression to representations [n, d] and labels (int64 [n], below `classes`).

    Full-batch L-BFGS in float64 with a strong Wolfe line search from zero weights. The problem is convex and the fit uses no random
    numbers, so it is reproducible. Returns a function that maps representations [m, d] to predicted labels [m].
    """
    mean, std = representations.double().mean(0), representations.double().std(0)
    std = torch.where(std > 0, std, 1.0)
    inputs = (representations.double() - mean) / std
    weights = torch.zeros(inputs.shape[1], classes, device=inputs.device, dtype=torch.float64, requires_grad=True)
    biases = torch.zeros(classes, device=inputs.device, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, biases], max_iter=ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(inputs @ weights + biases, labels) + PENALTY * weights.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)

    def predict(others: Tensor) -> Tensor:
        with torch.no_grad():
            return ((others.double() - mean) / std @ weights + biases).argmax(1)

    return predict
