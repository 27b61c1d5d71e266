"""A ledger with a short way to write each kind of report, for tests that need a recorded run."""

from collections.abc import Mapping
from typing import Any

from ddl.ledger import Ledger
from ddl.trial_report import TrialReport


class ReportingLedger(Ledger):
    def started(self, trial_id: str, step: int, place: str, metadata: Mapping[str, Any] | None = None) -> None:
        self.record([TrialReport(trial_id, "started", step=step, place=place, metadata=metadata or {})])

    def measured(
        self,
        trial_id: str,
        step: int,
        epoch: int | None,
        elapsed_s: float,
        metrics: Mapping[str, float],
        metadata: Mapping[str, Any],
    ) -> None:
        self.record([TrialReport(trial_id, "measured", step=step, epoch=epoch, elapsed_s=elapsed_s, metrics=metrics, metadata=metadata)])

    def ended(self, trial_id: str, status: str, reason: str = "", **last: Any) -> None:
        self.record([TrialReport(trial_id, "ended", status=status, reason=reason, **last)])
