"""An existing training loop: a small network classifies points of two spirals, measured after each epoch."""

import torch
from torch import Tensor, nn


def spirals(points: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points [n, 2] of two noisy spirals and their labels [n]."""
    generator = torch.Generator().manual_seed(seed)
    radius = torch.rand(points, generator=generator)
    labels = torch.randint(2, (points,), generator=generator)
    angle = 6 * radius + torch.pi * labels
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return x + 0.03 * torch.randn(points, 2, generator=generator), labels


def train(lr: float, seed: int):
    """Learning rate of a network for two spirals."""
    torch.manual_seed(seed)
    inputs, labels = spirals(256, seed=0)
    val_inputs, val_labels = spirals(256, seed=1)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    optimiser = torch.optim.Adam(model.parameters(), lr)

    for _ in range(10):
        model.train()
        for batch in torch.randperm(len(inputs)).split(64):
            loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            logits = model(val_inputs)
        accuracy = (logits.argmax(1) == val_labels).float().mean()
        yield {
            "val/loss": nn.functional.cross_entropy(logits, val_labels).item(),
            "val/accuracy": accuracy.item(),
        }
