"""Stops a sweep whose trials all fail with the same error, before it has trained them all."""

from ddl.config import ConfigError
from ddl.ledger_reader import LedgerReader
from ddl.sweeps.prepare import PreparedRun
from ddl.trial_report import TrialReport

FAILURES = 3
"""Number of trials, and of configurations if there are as many, that fail alike before the sweep stops."""


class FailuresAlike:
    """Watches the first trials of a run whose first steps the plan does not time, such as those of a function.

    Trials that had started before the first one failed may need longer to a measurement, so they are waited for.

    For other runs the plan finds such an error (`Plan.check`).
    """

    def __init__(self, run: PreparedRun, ledger: LedgerReader):
        """`ledger` has the trials of `run`, and those that are added while it runs."""
        self._watching = not run.resumed and not any(type(trial.task).timed for trial in run.timed)
        self._ledger = ledger
        self._needed = min(FAILURES, len({trial.configuration for trial in run.trials}) or FAILURES)
        self._failed: dict[str, str] = {}
        self._training: set[str] = set()

    def take(self, report: TrialReport) -> None:
        """Take a recorded report. Raises ConfigError if the first trials have failed with the same error before any measurement."""
        if report.kind == "started" and not self._failed:
            self._training.add(report.trial_id)
        if not self._watching or not (report.metrics or report.kind == "ended"):
            return
        self._training.discard(report.trial_id)
        if report.status != "failed" or (self._failed and report.reason not in self._failed.values()):
            self._watching = False
            return
        self._failed[report.trial_id] = report.reason
        configurations = {self._ledger.trial(trial_id).configuration for trial_id in self._failed}
        if not self._training and len(self._failed) >= FAILURES and len(configurations) >= self._needed:
            raise ConfigError([f"the first {len(self._failed)} trials fail: {report.reason}."], "The sweep was stopped.")
