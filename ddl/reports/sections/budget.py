"""The budget of each configuration: trials, epochs or steps, training time and energy, and the trials that were stopped early."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from ddl.reports import wording
from ddl.reports.model import RunReport
from ddl.reports.results import per_trial
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock

UNEQUAL = 0.10
"""Budgets that differ by a larger fraction of the smallest are named."""

CAPTION = (
    "Budget of each configuration: sums over all of its trials, with those that failed, diverged or were stopped early up to their last "
    "measurement. A trial that was trained as one model with others has an equal part of that model's time. A dash: not measured in every trial."
)


@dataclass(frozen=True)
class BudgetTable:
    """The columns after the configuration's name, and one row per configuration; `None` is a budget that was not measured.

    `note` names the budgets that differ by more than `UNEQUAL`, "" if there is none or the run has not ended.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    note: str
    caption: str = CAPTION


def budget_table(run: RunReport) -> BudgetTable | None:
    """The budgets of a run's configurations, None if there is nothing to compare."""
    if len(run.configurations) < 2 or run.metrics.empty:
        return None
    steps = run.metrics.groupby("trial_id")["step"].max()
    frame = per_trial(run.frame).assign(steps=run.frame["trial_id"].map(steps))
    counted = {"env steps": "train/env_steps"} if "train/env_steps" in frame else {"steps": "steps"}
    sums = {"epochs": "epoch", **counted, "training time": "elapsed_s", "energy (Wh)": "device/energy_wh"}
    shown = {title: column for title, column in sums.items() if column in frame and frame[column].notna().any()}
    rows = []
    of_configuration = dict(list(frame.groupby("configuration")))
    for c in run.configurations:
        mine = of_configuration[c.name]
        begun = mine[mine["elapsed_s"].notna()]
        rows.append(
            (c.name, (float(len(mine)), *(_total(begun[column]) for column in shown.values()), float(c.statuses.get("stopped", 0))))
        )
    columns = ("trials", *shown, "stopped early")
    return BudgetTable(columns, tuple(rows), _note(columns[:-1], rows) if run.ended else "")


def budget_text(value: float | None, column: str) -> str:
    """A budget as text: training time as a duration, energy with decimals, anything else as a whole number."""
    if column == "training time":
        return wording.cost(value, "elapsed_s")
    return wording.number(value) if column == "energy (Wh)" else wording.cost(value, "parameters")


def _total(values: pd.Series) -> float | None:
    return float(values.sum()) if len(values) and values.notna().all() else None


def _note(columns: Sequence[str], rows: Sequence[tuple[str, tuple[float | None, ...]]]) -> str:
    unequal = []
    for i, column in enumerate(columns):
        known = sorted((value, name) for name, values in rows if (value := values[i]) is not None)
        if known and known[-1][0] > (1 + UNEQUAL) * known[0][0]:
            (least, first), (most, last) = known[0], known[-1]
            unequal.append(f"{column} from {budget_text(least, column)} ({first}) to {budget_text(most, column)} ({last})")
    return f"Unequal budgets, more than {UNEQUAL:.0%} apart: {'; '.join(unequal)}." if unequal else ""


def _wandb(run: RunReport) -> Iterator[Block]:
    table = budget_table(run)
    if table is not None:
        yield HeadingBlock("Budget")
        rows = [[name, *(budget_text(v, column) for v, column in zip(values, table.columns, strict=True))] for name, values in table.rows]
        yield TableBlock(["Configuration", *table.columns], rows, f"{CAPTION} {table.note}".strip())


SECTION = Section("budget.html.j2", build=lambda run, budget: budget_table(run), wandb=_wandb)
