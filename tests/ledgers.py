"""A ledger with a short way to write each kind of report, and one to change what is written, for tests that need a recorded run."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ddl.ledger import Ledger
from ddl.ledger_checksums import keep_checksums
from ddl.run_folder import LEDGER
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


@contextmanager
def edited_ledger(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes the ledger of a run in any way, and leaves rows with the right checksums."""
    with closing(sqlite3.connect(folder / LEDGER)) as connection, connection:
        keep_checksums(connection)
        yield connection
