"""The task of `sine.py` as a function trainable of Ray Tune."""

import torch
from ray import tune
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def data(noise):
    """Training and validation examples."""
    generator = torch.Generator().manual_seed(0)
    x = 6 * torch.rand(768, 1, generator=generator) - 3
    y = torch.sin(x)
    noisy = y + noise * torch.randn(768, 1, generator=generator)
    return TensorDataset(x[:512], noisy[:512]), TensorDataset(x[512:], y[512:])


def trainable(config):
    """Train one configuration, and report the validation loss and mean absolute error of each epoch."""
    torch.manual_seed(config["seed"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, val = data(config["noise"])
    model = nn.Sequential(nn.Linear(1, config["width"]), nn.Tanh(), nn.Linear(config["width"], 1)).to(device)
    optimiser = torch.optim.Adam(model.parameters(), config["lr"])
    loss = nn.HuberLoss(delta=config["delta"])
    for _ in range(config["epochs"]):
        model.train()
        for x, y in DataLoader(train, config["batch_size"], shuffle=True):
            optimiser.zero_grad()
            loss(model(x.to(device)), y.to(device)).backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            x, y = (tensor.to(device) for tensor in val.tensors)
            outputs = model(x)
            tune.report({"val/loss": loss(outputs, y).item(), "val/mae": (outputs - y).abs().mean().item()})


space = {"width": 32, "noise": 0.3, "lr": 1e-3, "batch_size": 64, "epochs": 10}
space |= {"delta": tune.grid_search([0.1, 1.0]), "seed": tune.grid_search(list(range(5)))}
gpus = 1 if torch.cuda.is_available() else 0
results = tune.Tuner(tune.with_resources(trainable, {"cpu": 1, "gpu": gpus}), param_space=space).fit()
print(results.get_dataframe().groupby("config/delta")["val/mae"].agg(["mean", "std"]))
