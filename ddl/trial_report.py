"""What a worker reports of a trial, and what the ledger records of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class TrialReport:
    """One report of a trial, from the worker that runs it to the ledger.

    kind: `started` (the trial runs from `step` on), `alive` (nothing to record), `measured` (`metrics` and `metadata`),
        `stored` (the last measurement is now in a checkpoint), `ended` (`status`, `reason` and the last metrics) or
        `preempted` (the trial continues elsewhere from its checkpoint of `step`).
    elapsed_s: training time in seconds, over all attempts.
    metadata: JSON-serialisable facts about the trial, merged into its record.
    usage: device figures (`device/...`) up to the last measurement. They are recorded with the end of the trial, also if a
        scheduler stops it.
    status: one of `ledger.ENDED`, in a report of kind `ended`.
    place: host and device.
    """

    trial_id: str
    kind: Literal["started", "alive", "measured", "stored", "ended", "preempted"]
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
