"""The module of `lightning_module.py`, swept with Optuna."""

import optuna
from lightning.pytorch import seed_everything
from lightning_module import Spirals, loaders, make_trainer


def objective(trial):
    """Train with the values that the study suggests; the validation accuracy after the last epoch."""
    lr = trial.suggest_categorical("lr", [0.1, 0.01, 0.001])
    seed_everything(trial.suggest_categorical("seed", list(range(5))))
    trainer = make_trainer()
    trainer.fit(Spirals(lr), *loaders())
    return trainer.callback_metrics["val/accuracy"].item()


grid = optuna.samplers.GridSampler({"lr": [0.1, 0.01, 0.001], "seed": list(range(5))})
study = optuna.create_study(study_name="lr", storage="sqlite:///optuna.db", load_if_exists=True, sampler=grid, direction="maximize")
study.optimize(objective)
print(study.trials_dataframe().groupby("params_lr")["value"].agg(["mean", "std"]))
