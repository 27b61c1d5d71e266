"""The network and the points of `train.py` as existing Lightning code: a module, its data and its trainer."""

from lightning.pytorch import LightningModule, Trainer
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset
from train import spirals


class Spirals(LightningModule):
    """A small network that classifies points of two spirals."""

    def __init__(self, lr):
        super().__init__()
        self.lr = lr
        self.model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))

    def training_step(self, batch):
        """The loss of a batch."""
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch):
        """Log the loss and the accuracy of the validation points."""
        logits = self.model(batch[0])
        self.log("val/loss", nn.functional.cross_entropy(logits, batch[1]))
        self.log("val/accuracy", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        """Adam."""
        return optim.Adam(self.parameters(), self.lr)


def loaders():
    """Loaders of the training and validation points."""
    train, val = (TensorDataset(*spirals(256, seed)) for seed in (0, 1))
    return DataLoader(train, 64, shuffle=True), DataLoader(val, 256)


def make_trainer(**options):
    """A trainer that takes 10 epochs and writes nothing."""
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(max_epochs=10, accelerator="cpu", devices=1, **silent, **options)
