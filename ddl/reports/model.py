"""The report as plain data: what any renderer needs, without a mark of HTML.

`build_report` reads ledgers, lists the files that trials left, and works at any moment of a run: before the first trial, amid them, after failures.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ddl.ledger import ENDED, STATUSES, LedgerReader, TrialRow
from ddl.reports import artefacts, curves, measures, metric_kinds, narrative, parallel, results, tradeoffs
from ddl.reports.artefacts import Image, Text
from ddl.reports.curves import Panel
from ddl.reports.measures import Configuration, DataDescription, Measured, PublishedValues
from ddl.reports.narrative import PlanSummary
from ddl.reports.parallel import ParallelCoordinates
from ddl.reports.statistics import Comparison, Estimate
from ddl.reports.tradeoffs import Tradeoff
from ddl.reports.verdicts import NOT_REPRODUCED, Ordering

CURVES = 12
"""The most configurations drawn together; more could not be told apart."""


@dataclass(frozen=True)
class TrialSummary:
    """One row of the trial table. `values` maps a column of `Run.trial_columns` to its last value, None where unmeasured."""

    trial_id: str
    configuration: str
    seed: int
    status: str
    reason: str
    epoch: int | None
    seconds: float | None
    values: Mapping[str, float | None]
    data: str
    place: str
    attempts: int


@dataclass(frozen=True)
class RunReport:
    """One run folder. Every measure is named "best <metric>" (over epochs) or "last <metric>"; `primary` is the one to lead with.

    `notice` is loud: what the data are where they are a sample or a stand-in, "" otherwise; `caption` is the same for
    under a table or figure. Curves are drawn of the configurations `shown`; `curves_note` says which those are where not all are.
    `answer` leads with the finding; `leader` is the best configuration's name, or "". `parallel` is there where three
    hyperparameters vary.
    """

    name: str
    sweep: str
    title: str
    scale: str
    ended: bool
    statuses: Mapping[str, int]
    metric: str
    mode: str
    measures: tuple[str, ...]
    primary: str
    data: tuple[DataDescription, ...]
    notice: str
    caption: str
    answer: str
    leader: str
    setting: str
    judgement: str
    method: str
    reference: PublishedValues | None
    configurations: tuple[Configuration, ...]
    costs: tuple[str, ...]
    milestones: tuple[str, ...]
    tradeoffs: tuple[Tradeoff, ...]
    parallel: ParallelCoordinates | None
    ordering: Ordering | None
    shown: tuple[str, ...]
    panels: tuple[Panel, ...]
    curves_note: str
    comparisons: Mapping[str, tuple[Comparison, ...]]
    comparisons_note: str
    trial_columns: tuple[str, ...]
    trials: tuple[TrialSummary, ...]
    images: tuple[Image, ...]
    texts: tuple[Text, ...]
    plan: PlanSummary
    reproduce: tuple[tuple[str, str], ...]

    @property
    def failures(self) -> tuple[TrialSummary, ...]:
        return tuple(trial for trial in self.trials if trial.status in ("failed", "diverged"))

    @property
    def trials_ended(self) -> int:
        return sum(self.statuses[status] for status in ENDED)

    @property
    def verdicts(self) -> Mapping[str, int]:
        """How many configurations have each verdict, of those with a reference."""
        return Counter(c.verdict.word for c in self.configurations if c.verdict is not None)


@dataclass(frozen=True)
class SideBySide:
    """Runs of the same sweep: for each configuration the estimates of `measure`, one a run, None where a run lacks it."""

    sweep: str
    measure: str
    runs: tuple[RunReport, ...]
    rows: Mapping[str, tuple[Estimate | None, ...]]


@dataclass(frozen=True)
class Report:
    """One or several runs. `written` is an ISO time; `side_by_side` has an entry for each sweep that several runs share."""

    title: str
    written: str
    runs: tuple[RunReport, ...]
    side_by_side: tuple[SideBySide, ...]

    def not_reproduced(self) -> list[str]:
        """A line for each reference value that was not reproduced; empty where there is none."""
        return [
            f"{run.sweep} / {configuration.name}: {narrative.against_reference(configuration, run.reference)}"
            for run in self.runs
            if run.reference is not None
            for configuration in run.configurations
            if configuration.verdict is not None and configuration.verdict.word == NOT_REPRODUCED
        ]


def build_report(folders: Sequence[Path]) -> Report:
    """The report on the runs in `folders`. Raises ValueError for a folder without a readable ledger."""
    assert folders, "at least one run folder"
    runs = tuple(_run(Path(folder)) for folder in folders)
    titles = list(dict.fromkeys(run.title for run in runs))
    title = titles[0] if len(titles) == 1 else f"{len(runs)} runs: {', '.join(dict.fromkeys(run.sweep for run in runs))}"
    return Report(title, datetime.now(UTC).isoformat(timespec="seconds"), runs, _side_by_side(runs))


def _side_by_side(runs: Sequence[RunReport]) -> tuple[SideBySide, ...]:
    shared = []
    for sweep, measure in dict.fromkeys((run.sweep, run.primary) for run in runs):
        same = tuple(run for run in runs if (run.sweep, run.primary) == (sweep, measure))
        if len(same) > 1:
            measured = [{c.name: c.estimates[measure] for c in run.configurations} for run in same]
            names = dict.fromkeys(name for estimates in measured for name in estimates)
            shared.append(SideBySide(sweep, measure, same, {n: tuple(e.get(n) for e in measured) for n in names}))
    return tuple(shared)


def _run(folder: Path) -> RunReport:
    reader = LedgerReader(folder)
    run, trials, metrics = reader.run(), reader.trials(), reader.metrics()
    frame = results.results_frame(run, trials, metrics)
    sweep = run["sweep"]
    mode = sweep["metric"]["mode"]
    measured = measures.measure_run(run, trials, frame)
    best_first = measured.ranked(measured.primary, mode)
    shown = _shown(measured, mode)
    statuses = {status: sum(t.status == status for t in trials) for status in STATUSES}
    ended = all(t.status in ENDED for t in trials)
    trial_columns = (f"best {sweep['metric']['name']}", *metric_kinds.in_order(_curve_names(metrics), sweep["metric"]["name"]))
    return RunReport(
        name=folder.resolve().name,
        sweep=sweep["name"],
        title=sweep.get("title") or sweep["name"],
        scale=run.get("scale", ""),
        ended=ended,
        statuses=statuses,
        metric=sweep["metric"]["name"],
        mode=mode,
        measures=measured.measures,
        primary=measured.primary,
        data=measured.data,
        notice=narrative.data_notice(measured.data),
        caption=narrative.caption(measured.data),
        answer=narrative.answer(measured, mode),
        leader=best_first[0].name if best_first else "",
        setting=narrative.setting(measured, statuses, run.get("scale", "")),
        judgement=narrative.judgement(measured),
        method=narrative.method(measured),
        reference=measured.reference,
        configurations=measured.configurations,
        costs=measured.costs,
        milestones=measured.milestones,
        tradeoffs=tradeoffs.find_tradeoffs(measured.configurations, measured.costs, measured.primary, mode),
        parallel=parallel.parallel_coordinates(measured.configurations, measured.primary, mode),
        ordering=measured.ordering,
        shown=tuple(shown),
        panels=curves.curve_panels(
            metrics, {t.trial_id: t.configuration for t in trials}, {t.trial_id: t.seed for t in trials}, shown,
            sweep["metric"]["name"],
        ),
        curves_note=narrative.curves_note(measured, shown),
        comparisons=measured.comparisons,
        comparisons_note=measured.comparisons_note,
        trial_columns=trial_columns,
        trials=tuple(_trial(t, row, trial_columns) for t, row in zip(trials, frame.to_dict("records"), strict=True)),
        images=artefacts.find_images(folder, trials),
        texts=artefacts.find_texts(folder, trials),
        plan=narrative.plan_summary(run, trials, ended),
        reproduce=narrative.reproduction_record(run, folder.resolve().name, trials, measured.data, ended),
    )  # fmt: skip


def _curve_names(metrics: pd.DataFrame) -> list[str]:
    return [name for name in metrics["name"].unique() if not metric_kinds.is_cost(name) and name not in metric_kinds.COUNTERS]


def _shown(measured: Measured, mode: str) -> list[str]:
    """The configurations whose curves are drawn: all in the order of the plan, or the best where they are too many."""
    names = [configuration.name for configuration in measured.configurations]
    if len(names) <= CURVES:
        return names
    return [configuration.name for configuration in measured.ranked(measured.primary, mode)][:CURVES] or names[:CURVES]


def _trial(trial: TrialRow, row: Mapping[Hashable, Any], columns: Sequence[str]) -> TrialSummary:
    data = measures.describe_data(trial)
    return TrialSummary(
        trial_id=trial.trial_id,
        configuration=trial.configuration,
        seed=trial.seed,
        status=trial.status,
        reason=trial.reason,
        epoch=None if pd.isna(row["epoch"]) else int(row["epoch"]),
        seconds=None if pd.isna(row["elapsed_s"]) else float(row["elapsed_s"]),
        values={name: None if pd.isna(row[name]) else float(row[name]) for name in columns},
        data="" if data is None else data.label,
        place=trial.place,
        attempts=trial.attempts,
    )
