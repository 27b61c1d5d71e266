"""The training loop of `train.py`, swept with Ray Tune."""

from ray import tune
from train import train


def trainable(config):
    """Report what the training loop measures."""
    for metrics in train(**config):
        tune.report(metrics)


space = {"lr": tune.grid_search([0.1, 0.01, 0.001]), "seed": tune.grid_search(list(range(5)))}
results = tune.Tuner(trainable, param_space=space).fit()
print(results.get_dataframe().groupby("config/lr")["val/accuracy"].agg(["mean", "std"]))
