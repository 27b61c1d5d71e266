"""The report of a trial that a worker yields and the ledger records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

RESTARTED = ("preempted", "out_of_memory")
"""Kinds of a last report after which the trial starts again from its newest checkpoint."""

OTHER_COLUMNS = [
    "trial_id",
    "configuration",
    "status",
    "reason",
    "seed",
    "counted",
    "epoch",
    "elapsed_s",
    "parameters",
    "stacked",
    "precision",
    "data",
    "data_source",
    "data_complete",
    "fallback_for",
]
"""Columns of results.csv that are no metrics. They may start with `task.` and `best ` too."""


def check_metric_names(names: Iterable[str]) -> None:
    """Raise ValueError if a metric has the name of another column of results.csv, or one that cannot be shown."""
    for name in names:
        if not name or not name.isprintable():
            raise ValueError(f"a metric is called {name[:100]!r}, which cannot be shown. Rename it, for example val/loss.")
        if name in OTHER_COLUMNS or name.startswith(("task.", "best ")):
            raise ValueError(
                f"a metric is called {name!r}, like a column of results.csv. Rename it, for example val/{name.split('.')[-1]}."
            )


@dataclass(frozen=True)
class TrialReport:
    """A report from the worker that runs a trial.

    kind: `started` (the trial trains from `step`), `alive` (nothing to record), `measured` (`metrics` and `metadata`),
        `stored` (a checkpoint contains the last measurement), `ended` (`status`, `reason` and the last metrics),
        `cannot_write` (a file of the trial cannot be written, `error`; the sweep cannot continue),
        `preempted` (the trial continues elsewhere from its checkpoint of `step`) or `out_of_memory` (the trial starts again from
        its newest checkpoint with a larger part of a GPU; `reason`).
    elapsed_s: training time in seconds, over all attempts.
    metadata: JSON-serialisable; merged into the metadata of the trial in the ledger.
    usage: device metrics (`device/...`) up to the last measurement, recorded when the trial ends, even if a scheduler stops it.
    status: one of `ledger.ENDED`, in a report of kind `ended`.
    place: host and device.
    error: the error's number, its text and the path, in a report of kind `cannot_write`.
    """

    trial_id: str
    kind: Literal["started", "alive", "measured", "stored", "ended", "cannot_write", "preempted", "out_of_memory"]
    step: int = 0
    total_steps: int = 0
    epoch: int | None = None
    elapsed_s: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    status: str = ""
    reason: str = ""
    place: str = ""
    error: tuple[int, str, str] | None = None


def ended_report(last: TrialReport, status: str, reason: str) -> TrialReport:
    """The last report of a trial that does not report its end itself. `last` is the one before, with the device usage until then."""
    return replace(last, kind="ended", status=status, reason=reason, metrics=last.usage)


def stopped_report(last: TrialReport) -> TrialReport:
    """`ended_report` of a trial that the scheduler stopped."""
    step = f" at step {last.step} of {last.total_steps}" if last.total_steps else ""
    return ended_report(last, "stopped", f"by the scheduler{step}")
