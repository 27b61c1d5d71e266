"""PyTorch's MNIST example as a function that yields: https://github.com/pytorch/examples/blob/main/mnist/main.py (BSD-3).

The structure, network and hyperparameters are the example's. What is different: `test` returns the loss and accuracy that the example
prints, and `train_mnist` yields them; the arguments of `main`'s parser are those of `train_mnist`; the images come from the sample that
is bundled with ddl instead of torchvision's download; layers without parameters are called as functions.

    python launch.py --sweep benchmarks/bring_your_own/mnist.py:train_mnist lr=1.0,0.1 seeds=3 metric=test/accuracy
"""

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from ddl.data.sources import load_data_set


class Net(nn.Module):
    """Two convolutions and two linear layers with dropout: images [n, 1, 28, 28] to log probabilities [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return F.log_softmax(self.fc2(self.dropout2(x)), dim=1)


def train(model, device, loader, optimizer):
    """Train for one epoch."""
    model.train()
    for data, target in loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = F.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()


def test(model, device, loader):
    """Mean loss and accuracy of the test images."""
    model.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            loss += F.nll_loss(output, target, reduction="sum").item()
            correct += (output.argmax(1) == target).sum().item()
    return {"test/loss": loss / len(loader.dataset), "test/accuracy": correct / len(loader.dataset)}


def loader(split, batch_size, shuffle=False):
    """Batches of normalised images."""
    images = (split.inputs.float() / 255 - 0.1307) / 0.3081
    return DataLoader(TensorDataset(images, split.targets), batch_size, shuffle=shuffle)


def train_mnist(
    lr: float = 1.0, gamma: float = 0.7, epochs: int = 14, batch_size: int = 64, test_batch_size: int = 1000, *, seed: int, device
):
    """PyTorch's MNIST example."""
    torch.manual_seed(seed)
    mnist = load_data_set("mnist", "sample")
    train_loader = loader(mnist.train, batch_size, shuffle=True)
    test_loader = loader(mnist.val, test_batch_size)
    model = Net().to(device)
    optimizer = optim.Adadelta(model.parameters(), lr=lr)
    scheduler = StepLR(optimizer, step_size=1, gamma=gamma)
    for _ in range(epochs):
        train(model, device, train_loader, optimizer)
        yield test(model, device, test_loader)
        scheduler.step()
