"""A small network learns a noisy sine."""

import torch
from torch import nn

import ddl


@ddl.task
class Sine(ddl.SupervisedTask):
    """Regression of a noisy sine."""

    width: int = 32
    """Units of the hidden layer."""
    noise: float = 0.3
    """Standard deviation of the noise on the training targets."""
    delta: float = 1.0
    """Error at which the Huber loss turns from quadratic to linear."""

    def data(self):
        generator = torch.Generator().manual_seed(0)
        x = 6 * torch.rand(768, 1, generator=generator) - 3
        y = torch.sin(x)
        noisy = y + self.noise * torch.randn(768, 1, generator=generator)
        return (x[:512], noisy[:512]), (x[512:], y[512:])

    def model(self):
        return nn.Sequential(nn.Linear(1, self.width), nn.Tanh(), nn.Linear(self.width, 1))

    def loss(self, outputs, targets):
        return nn.functional.huber_loss(outputs, targets, delta=self.delta)

    def metrics(self, outputs, targets):
        return {"mae": (outputs - targets).abs().mean()}
