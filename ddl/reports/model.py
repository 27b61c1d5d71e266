"""The report as plain data: what one or several runs recorded and measured. `sections` says how a run is shown.

`build_report` works at any moment of a run: before the first trial, during the trials and after failures.
"""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import ENDED, LOST, STATUSES, TrialRow
from ddl.program import program
from ddl.redaction import Redactor
from ddl.reports import narrative
from ddl.reports.confirmations import Confirmation, read_confirmation
from ddl.reports.measures import Configuration, Measured, measure_run
from ddl.reports.results import results_frame
from ddl.reports.verdicts import NOT_REPRODUCED

MAX_CURVES = 12
"""Most configurations in one plot; more cannot be distinguished."""


@dataclass(frozen=True)
class RunReport(Measured):
    """One run: its measurements, and the records they come from.

    `record` is the ledger's record of the run, `metrics` its metric rows, `frame` one row per trial as in `results.csv`.
    """

    folder: Path
    record: Mapping[str, Any]
    trials: tuple[TrialRow, ...]
    metrics: pd.DataFrame
    frame: pd.DataFrame

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.folder.resolve().name

    @property
    def sweep(self) -> str:
        """Name of the sweep."""
        return self.record["sweep"]["name"]

    @property
    def title(self) -> str:
        """Title of the sweep, or its name if it has none."""
        return self.record["sweep"].get("title") or self.sweep

    @property
    def scale(self) -> str:
        """Scale of the run, such as "paper" or "sample"; "" if none was recorded."""
        return self.record.get("scale", "")

    @property
    def metric(self) -> str:
        """Metric of the sweep."""
        return self.record["sweep"]["metric"]["name"]

    @property
    def mode(self) -> str:
        """Direction of the metric: "max" if higher is better, else "min"."""
        return self.record["sweep"]["metric"]["mode"]

    @cached_property
    def statuses(self) -> Mapping[str, int]:
        """Number of trials by status, zeros included."""
        return {status: sum(trial.status == status for trial in self.trials) for status in STATUSES}

    @property
    def trials_ended(self) -> int:
        """Number of trials that will not run any further."""
        return sum(self.statuses[status] for status in ENDED)

    @property
    def ended(self) -> bool:
        """True if every trial has ended."""
        return self.trials_ended == len(self.trials)

    @property
    def failures(self) -> tuple[TrialRow, ...]:
        """Failed and diverged trials."""
        return tuple(trial for trial in self.trials if trial.status in LOST)

    @property
    def notices(self) -> Mapping[str, str]:
        """Warnings that a reader needs before any number, by their first words."""
        return narrative.notices(self.data, self.record)

    @cached_property
    def caption(self) -> str:
        """Short form of the notice on the data for every table and figure, "" if they are complete and genuine."""
        return narrative.data_caption(self.data)

    @cached_property
    def confirmation(self) -> Confirmation | None:
        """The comparison with the run that this one confirms; None for an ordinary run."""
        confirms = self.record.get("confirms")
        return read_confirmation(confirms, self, self.mode) if confirms else None

    @property
    def next_step(self) -> str:
        """A line with the command that confirms the best configurations; "" for a run that has not ended or has nothing to confirm."""
        if not self.ended or self.confirmation or self.record.get("population") or len(self.best_first) < 2:
            return ""
        place = shlex.quote(self.record.get("url") or str(self.folder))
        return f"to confirm the best two on fresh seeds: {program()} --confirm {place}"

    @property
    def answer(self) -> str:
        """The main finding in one or two sentences."""
        if self.ended and not self.leader:
            counts = ", ".join(f"{n} {status}" for status, n in self.statuses.items() if n)
            return f"No trial has a value of {self.metric} ({counts})."
        return self.confirmation.answer if self.confirmation else narrative.answer(self, self.record.get("race"))

    @property
    def headline(self) -> str:
        """`answer` and `caption` in one line."""
        return f"{self.answer} {self.caption}.".removesuffix(" .")

    @property
    def leader(self) -> str:
        """Name of the best configuration, or ""."""
        return next((configuration.name for configuration in self.best_first), "")

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """Configurations in the plots: all in the order of the plan, or the best `MAX_CURVES`. The index of each chooses its colour."""
        names = [configuration.name for configuration in self.configurations]
        if len(names) > MAX_CURVES:
            names = [configuration.name for configuration in self.best_first] or names
        return tuple(names[:MAX_CURVES])

    @property
    def verdicts(self) -> Mapping[str, int]:
        """Number of configurations by verdict, without those that have no reference value."""
        return Counter(c.verdict.word for c in self.configurations if c.verdict is not None)


@dataclass(frozen=True)
class SideBySide:
    """Runs of the same sweep, compared by `measure`. `rows` has each configuration of each run by name, None if the run lacks it."""

    sweep: str
    measure: str
    runs: tuple[RunReport, ...]
    rows: Mapping[str, tuple[Configuration | None, ...]]


@dataclass(frozen=True)
class Report:
    """The report on one or several runs. `written` is an ISO time; `side_by_side` has one entry per sweep that several runs share."""

    title: str
    written: str
    runs: tuple[RunReport, ...]
    side_by_side: tuple[SideBySide, ...]

    def headlines(self) -> list[str]:
        """The main finding of each run, with its sweep if there are several."""
        return [run.headline if len(self.runs) == 1 else f"{run.sweep}: {run.headline}" for run in self.runs]

    def not_reproduced(self) -> list[str]:
        """One line per reference value that was not reproduced."""
        return [
            f"{run.sweep} / {configuration.name}: {narrative.against_reference(configuration, run.reference)}"
            for run in self.runs
            if run.reference is not None
            for configuration in run.configurations
            if configuration.verdict is not None and configuration.verdict.word in NOT_REPRODUCED
        ]


def build_report(folders: Sequence[Path]) -> Report:
    """The report on the runs in `folders`. Raises ValueError for a folder without a readable ledger."""
    assert folders, "at least one run folder"
    runs = tuple(_read_run(Path(folder)) for folder in folders)
    titles = list(dict.fromkeys(run.title for run in runs))
    title = titles[0] if len(titles) == 1 else f"{len(runs)} runs: {', '.join(dict.fromkeys(run.sweep for run in runs))}"
    return Report(title, datetime.now(UTC).isoformat(timespec="seconds"), runs, _side_by_side(runs))


def _side_by_side(runs: Sequence[RunReport]) -> tuple[SideBySide, ...]:
    shared = []
    for sweep, measure in dict.fromkeys((run.sweep, run.primary) for run in runs):
        same = tuple(run for run in runs if (run.sweep, run.primary) == (sweep, measure))
        if len(same) > 1:
            by_name = [{c.name: c for c in run.configurations} for run in same]
            names = dict.fromkeys(name for configurations in by_name for name in configurations)
            shared.append(SideBySide(sweep, measure, same, {n: tuple(each.get(n) for each in by_name) for n in names}))
    return tuple(shared)


def _read_run(folder: Path) -> RunReport:
    reader = LedgerReader(folder)
    record, trials, metrics = reader.run("sweep.name", "sweep.metric.name", "sweep.metric.mode"), reader.trials(), reader.metrics()
    record = Redactor().value(record)  # an earlier version recorded the command as it was given
    frame = results_frame(record, trials, metrics)
    measured = measure_run(record, trials, frame)
    return RunReport(**vars(measured), folder=folder, record=record, trials=tuple(trials), metrics=metrics, frame=frame)
