"""The task of `sine.py` as an objective of Optuna."""

import optuna
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def data(noise):
    """Training and validation examples."""
    generator = torch.Generator().manual_seed(0)
    x = 6 * torch.rand(768, 1, generator=generator) - 3
    y = torch.sin(x)
    noisy = y + noise * torch.randn(768, 1, generator=generator)
    return TensorDataset(x[:512], noisy[:512]), TensorDataset(x[512:], y[512:])


def objective(trial):
    """Train one configuration; the mean absolute error of the validation examples after the last epoch."""
    delta = trial.suggest_categorical("delta", [0.1, 1.0])
    torch.manual_seed(trial.suggest_categorical("seed", list(range(5))))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, val = data(0.3)
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1)).to(device)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    loss = nn.HuberLoss(delta=delta)
    for epoch in range(10):
        model.train()
        for x, y in DataLoader(train, 64, shuffle=True):
            optimiser.zero_grad()
            loss(model(x.to(device)), y.to(device)).backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            x, y = (tensor.to(device) for tensor in val.tensors)
            mae = (model(x) - y).abs().mean().item()
            trial.report(mae, epoch)
    return mae


grid = optuna.samplers.GridSampler({"delta": [0.1, 1.0], "seed": list(range(5))})
study = optuna.create_study(study_name="sine", storage="sqlite:///optuna.db", load_if_exists=True, sampler=grid)
study.optimize(objective)
print(study.trials_dataframe().groupby("params_delta")["value"].agg(["mean", "std"]))
