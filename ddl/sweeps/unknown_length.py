"""Stops a sweep that compares trials while they train, if their number of steps is unknown."""

from ddl.config import ConfigError
from ddl.sweeps.prepare import PreparedRun
from ddl.trial_report import TrialReport


def check_length(run: PreparedRun, report: TrialReport) -> None:
    """Raise ConfigError if `report`, of a trial of `run`, has a measurement that cannot be compared with those of other trials."""
    scheduler = run.launch.early_stopping.scheduler
    key = "search.algorithm: pbt" if run.population else f"early_stopping.scheduler: {scheduler}"
    if (run.population or scheduler != "none") and report.metrics and report.kind == "measured" and not report.total_steps:
        problem = f"{key} compares trials after equal parts of their steps, but a trial does not say how many it takes."
        raise ConfigError([f"{problem} Yield ddl.Progress(..., total_steps=...)."], "The sweep was stopped.")
