"""The training loop of `train.py`, swept with Optuna. Every process that runs this file takes trials of the same study."""

import optuna
from train import train


def objective(trial):
    """Train with the values that the study suggests; the accuracy after the last epoch."""
    lr = trial.suggest_categorical("lr", [0.1, 0.01, 0.001])
    seed = trial.suggest_categorical("seed", list(range(5)))
    for epoch, metrics in enumerate(train(lr, seed)):
        trial.report(metrics["val/accuracy"], epoch)
    return metrics["val/accuracy"]


grid = optuna.samplers.GridSampler({"lr": [0.1, 0.01, 0.001], "seed": list(range(5))})
study = optuna.create_study(study_name="lr", storage="sqlite:///optuna.db", load_if_exists=True, sampler=grid, direction="maximize")
study.optimize(objective)
print(study.trials_dataframe().groupby("params_lr")["value"].agg(["mean", "std"]))
