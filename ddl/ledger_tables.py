"""The tables of the ledger, and the row of a trial."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 3
STATUSES = ("planned", "running", "finished", "stopped", "diverged", "failed")
COUNTED = ("finished", "stopped")
"""Statuses of the trials whose values enter means. A trial stopped by a scheduler counts with the values it had reached; leaving it out
would favour its configuration."""
LOST = ("diverged", "failed")
"""Statuses of the trials that ended without a value that counts."""
ENDED = (*COUNTED, *LOST)

SCHEMA = f"""
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL DEFAULT 0);
CREATE TABLE trials (
    trial_id TEXT PRIMARY KEY,
    position INTEGER NOT NULL UNIQUE,
    configuration TEXT NOT NULL,
    swept TEXT NOT NULL,
    task TEXT NOT NULL,
    seed INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN {STATUSES}),
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    place TEXT NOT NULL DEFAULT '',
    metadata TEXT NOT NULL DEFAULT '{{}}',
    started_at REAL,
    ended_at REAL,
    checksum INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE metrics (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    trial_id TEXT NOT NULL REFERENCES trials,
    step INTEGER NOT NULL,
    epoch INTEGER,
    elapsed_s REAL NOT NULL,
    name TEXT NOT NULL,
    value REAL,
    checksum INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX metrics_of_a_trial ON metrics (trial_id, name, step);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    trial_id TEXT,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    checksum INTEGER NOT NULL DEFAULT 0
);
"""


@dataclass(frozen=True)
class TrialRow:
    """A trial in the ledger.

    position: its place in the plan, from 0.
    configuration: its name in tables, without the seed.
    swept: value of each swept key (`task.lr`). task: value of every hyperparameter.
    metadata: what the trial reported about itself (`Progress.metadata`).
    started_at, ended_at: Unix times in seconds, for display only.
    """

    trial_id: str
    position: int
    configuration: str
    swept: Mapping[str, Any]
    task: Mapping[str, Any]
    seed: int
    status: str = "planned"
    reason: str = ""
    attempts: int = 0
    place: str = ""
    metadata: Mapping[str, Any] | None = None
    started_at: float | None = None
    ended_at: float | None = None

    def hyperparameters(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """`task`, with the values that population based training last gave the trial. `run` is the ledger's record of the run."""
        changed = (self.metadata or {}).get("changed", {}) if run.get("population") else {}
        return {**self.task, **changed}
