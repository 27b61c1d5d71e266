"""A run shown elsewhere, replayed from its ledger."""

import os

# W&B sends reports of its own errors, with what they mention, to its makers, and waits for that when a process ends. It
# reads this when it is imported.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
