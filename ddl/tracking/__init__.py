"""Publishes runs to Weights & Biases, replayed from their ledgers."""

import os

# W&B's client sends its own error reports to W&B and waits for that when a process ends. It reads this on import.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
