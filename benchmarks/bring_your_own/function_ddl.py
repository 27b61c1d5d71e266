"""The training loop of `train.py`, swept with ddl."""

from train import train

import ddl

run = ddl.sweep(train, {"lr": [0.1, 0.01, 0.001]}, seeds=5, metric="val/accuracy")
print(run.results.groupby("task.lr")["val/accuracy"].agg(["mean", "std"]))
