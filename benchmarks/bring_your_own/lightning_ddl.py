"""The module of `lightning_module.py`, swept with ddl."""

from lightning_module import Spirals, loaders, make_trainer

import ddl
from ddl.integrations.lightning import lightning_measurements


def train(lr: float, *, seed, resume=None):
    """Yield what the module logs."""
    train_loader, val_loader = loaders()
    yield from lightning_measurements(make_trainer(), Spirals(lr), resume, train_dataloaders=train_loader, val_dataloaders=val_loader)


if __name__ == "__main__":
    run = ddl.sweep(train, {"lr": [0.1, 0.01, 0.001]}, seeds=5, metric="val/accuracy")
    print(run.results.groupby("task.lr")["val/accuracy"].agg(["mean", "std"]))
