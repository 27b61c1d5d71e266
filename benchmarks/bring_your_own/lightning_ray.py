"""The module of `lightning_module.py`, swept with Ray Tune and its callback for Lightning."""

from lightning.pytorch import seed_everything
from lightning_module import Spirals, loaders, make_trainer
from ray import tune
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback


def trainable(config):
    """Report and checkpoint what the module logs after each validation."""
    seed_everything(config["seed"])
    trainer = make_trainer(callbacks=[TuneReportCheckpointCallback()])
    trainer.fit(Spirals(config["lr"]), *loaders())


space = {"lr": tune.grid_search([0.1, 0.01, 0.001]), "seed": tune.grid_search(list(range(5)))}
results = tune.Tuner(trainable, param_space=space).fit()
print(results.get_dataframe().groupby("config/lr")["val/accuracy"].agg(["mean", "std"]))
