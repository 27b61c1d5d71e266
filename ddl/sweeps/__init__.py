"""Sweeps: expand them into trials, plan and run the trials. Sets the environment variables that Ray reads when it is imported."""

import os

RAY_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Equal lines of several trials are several lines in `launch.log`, which needs no colours.
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # With the default of one pending trial, Tune starts processes one by one: a large cluster fills slowly and never fully.
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # not every report has the metric
}
os.environ |= RAY_SETTINGS
# A private cluster requires a token; a running cluster may have been started without.
os.environ.setdefault("RAY_AUTH_MODE", "token")
