"""PyTorch Lightning inside a function that is swept."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ddl

lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed: pip install -e '.[lightning]'")
pytestmark = pytest.mark.filterwarnings("default")  # of Lightning, about numbers of workers and loggers


class Line(lightning.LightningModule):
    """Learns y = 2x, with momentum and a learning rate that decays each epoch."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch):
        loss = (self.layer(batch[0]) - batch[1]).square().mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch):
        self.log("val/loss", (self.layer(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self):
        optimiser = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)
        return [optimiser], [torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)]


def measurements(lr, epochs=4, resume=None, seed=0, **options):
    """Measurements of one training on 32 points."""
    from ddl.integrations.lightning import lightning_measurements

    torch.manual_seed(seed)
    x = torch.linspace(-1, 1, 32).unsqueeze(1)
    data = TensorDataset(x, 2 * x)
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", devices=1, **silent, **options)
    loaders = {"train_dataloaders": DataLoader(data, 8), "val_dataloaders": DataLoader(data, 32)}
    return lightning_measurements(trainer, Line(lr), resume, **loaders)


def test_each_epoch_is_measured():
    measured = list(measurements(0.05))
    assert [(progress.step, progress.total_steps, progress.epoch) for progress in measured] == [(n, 4, n) for n in (1, 2, 3, 4)]
    assert all(set(progress.metrics) == {"train/loss", "val/loss"} for progress in measured)
    assert measured[-1].metrics["val/loss"] < measured[0].metrics["val/loss"]


def test_an_epoch_without_validation_is_not_measured():
    assert [progress.epoch for progress in measurements(0.05, check_val_every_n_epoch=2)] == [2, 4]
    assert [set(progress.metrics) for progress in measurements(0.05, 2, limit_val_batches=0)] == [{"train/loss"}] * 2


def test_training_continues_from_a_state_with_the_same_numbers():
    whole = [dict(progress.metrics) for progress in measurements(0.05)]
    first = measurements(0.05)
    next(first)
    state = next(first).state()
    first.close()
    rest = list(measurements(0.05, resume=state, seed=1))
    assert [progress.epoch for progress in rest] == [3, 4]
    assert [dict(progress.metrics) for progress in rest] == whole[2:]


def test_an_error_of_the_training_is_raised(monkeypatch):
    monkeypatch.setattr(Line, "validation_step", lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(measurements(0.05, num_sanity_val_steps=0))


def test_a_function_with_lightning_is_swept_and_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failures = []

    def train(lr: float, *, seed, resume=None):
        for progress in measurements(lr, resume=resume, seed=seed):
            yield progress
            if lr == 0.1 and progress.epoch == 2 and not failures:
                failures.append(progress.epoch)
                raise RuntimeError("fails once")

    options = {"metric": "val/loss", "seeds": 1, "executor": "inline", "overrides": ["checkpoint_every_s=0.000001", "wandb.mode=disabled"]}
    run = ddl.sweep(train, {"lr": [0.1, 0.01]}, **options)
    assert list(run.results["status"]) == ["failed", "finished"]
    resumed = ddl.resume(run.folder, function=train)
    assert list(resumed.results["status"]) == ["finished", "finished"]
    curve = resumed.curves.query("metric == 'val/loss' and configuration == 'lr=0.1'")
    assert list(curve["epoch"]) == [1, 2, 3, 4]
    assert list(curve["value"]) == [progress.metrics["val/loss"] for progress in measurements(0.1)]
