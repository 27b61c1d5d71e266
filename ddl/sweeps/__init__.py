"""Sweeps on their way through trials. What Ray reads when it is imported is set here, before any of its owners can."""

import os

RAY_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune starts one process after another where only one trial may wait: a large cluster then fills slowly, and never quite.
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # signs of life carry no metric
}
os.environ |= RAY_SETTINGS
# A cluster that others started may do without tokens; ours does not.
os.environ.setdefault("RAY_AUTH_MODE", "token")
