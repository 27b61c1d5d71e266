"""The table of all trials."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ddl import units
from ddl.ledger_tables import TrialRow
from ddl.reports import metric_kinds, wording
from ddl.reports.data_sets import describe_data
from ddl.reports.model import RunReport
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock

MAX_ROWS = 200
"""Most rows of the table in a W&B Report; the run set under its curves has all trials."""


@dataclass(frozen=True)
class TrialSummary:
    """One row of the table. `values` has the last value of each of `trial_columns`, None if it was not measured. `reason` is the trial's,
    followed by what the trial has left behind in its process."""

    trial: TrialRow
    epoch: int | None
    seconds: float | None
    values: Mapping[str, float | None]
    data: str
    reason: str


@dataclass(frozen=True)
class TrialTable:
    """The table's metric columns and its rows."""

    columns: tuple[str, ...]
    rows: tuple[TrialSummary, ...]

    @property
    def epochs(self) -> bool:
        """True if a trial has counted epochs."""
        return any(row.epoch is not None for row in self.rows)

    @property
    def data(self) -> bool:
        """True if a trial has recorded its data."""
        return any(row.data for row in self.rows)


def trial_table(run: RunReport) -> TrialTable:
    """One row per trial: the sweep's best value, and the last value of every metric that is not a cost or a counter."""
    names = [name for name in run.metrics["name"].unique() if not metric_kinds.is_cost(name) and name not in metric_kinds.COUNTERS]
    columns = (f"best {run.metric}", *metric_kinds.in_order(names, run.metric))
    return TrialTable(columns, tuple(_row(t, row, columns) for t, row in zip(run.trials, run.frame.to_dict("records"), strict=True)))


def _row(trial: TrialRow, row: Mapping[Hashable, Any], columns: tuple[str, ...]) -> TrialSummary:
    data = describe_data(trial)
    left_behind = (trial.metadata or {}).get("left_behind")
    return TrialSummary(
        trial,
        epoch=None if pd.isna(row["epoch"]) else int(row["epoch"]),
        seconds=None if pd.isna(row["elapsed_s"]) else float(row["elapsed_s"]),
        values={name: None if pd.isna(row[name]) else float(row[name]) for name in columns},
        data="" if data is None else data.label,
        reason="; ".join([*filter(None, [trial.reason]), *([f"left behind: {left_behind}"] if left_behind else [])]),
    )


def _wandb(run: RunReport) -> Iterator[Block]:
    yield HeadingBlock("Trials")
    table = trial_table(run)
    rows = [
        [r.trial.configuration, r.trial.seed, r.trial.status, wording.ABSENT if r.epoch is None else r.epoch]
        + [wording.number(r.values[column]) for column in table.columns]
        + [wording.ABSENT if r.seconds is None else units.duration(r.seconds), r.reason, r.data, r.trial.trial_id]
        for r in table.rows[:MAX_ROWS]
    ]
    columns = ["configuration", "seed", "status", "epoch", *table.columns, "training time", "reason", "data", "trial"]
    omitted = len(table.rows) - len(rows)
    yield TableBlock(columns, rows, f"Last values of every trial.{f' {omitted} more are in the run set.' if omitted else ''}")


SECTION = Section("trials.html.j2", build=lambda run, budget: trial_table(run), wandb=_wandb, script="trials.js")
