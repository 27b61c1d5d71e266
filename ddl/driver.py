"""The driver of one or several runs: makes their plans, has an executor train them as one queue, and records the reports."""

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ddl.durable import CannotWrite
from ddl.ledger_tables import COUNTED
from ddl.open_run import OpenRun
from ddl.redaction import Redactor
from ddl.reports.live import LiveReport
from ddl.sweeps import prepare
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.executors import Executor
from ddl.sweeps.failures_alike import FailuresAlike
from ddl.sweeps.missing_metric import MissingMetric
from ddl.sweeps.pack import Pack
from ddl.sweeps.plan import Plan, PlannedPack, makespan
from ddl.sweeps.space import Trial
from ddl.sweeps.unknown_length import check_length
from ddl.tasks.task import with_precision
from ddl.terminal import DisplayedTrial, ProgressDisplay
from ddl.trial_report import TrialReport
from ddl.units import duration


def train_runs(console: Console, planned: Sequence[tuple[OpenRun, Plan]], executor: Executor, top: Path) -> None:
    """Train all runs to their ends, and keep the report in the folder `top` up to date.

    Raises ConfigError if the trials do not report the metric of a run, or all fail alike, and CannotWrite if a file of a run cannot be written.
    """
    began = time.time()
    runs_of_trial: dict[str, list[OpenRun]] = {}
    queue: list[tuple[OpenRun, Plan, PlannedPack]] = []
    for run, plan in sorted(planned, key=lambda item: item[0].folder):  # as a resume finds them: the first run of a trial stores its files
        new = [trial for trial in run.prepared.trials if trial.trial_id not in runs_of_trial]
        queue += [(run, plan, pack) for pack in plan.packs(new)]
        for trial in run.prepared.trials:
            sharing = runs_of_trial.setdefault(trial.trial_id, [])
            sharing.append(run)
            if len(sharing) > 1:
                _link_trial_folder(sharing[0], run, trial.trial_id)
    if len(planned) > 1:
        # Longest pack first, so that no core is idle at the end (Graham, SIAM J. Appl. Math. 17, 1969).
        queue.sort(key=lambda item: -item[2].seconds)
    displayed = {trial.trial_id: _displayed_trial(run, plan, trial, pack) for run, plan, pack in queue for trial in pack.trials}
    to_add = sum(run.prepared.to_add for run, _ in planned)
    earlier = sum(run.prepared.earlier for run, _ in planned)
    concurrent = max(plan.allocation.concurrent for _, plan in planned)
    added = [plan.mean_s for run, plan in planned for _ in range(run.prepared.to_add)]
    known = all(plan.probes for _, plan in planned)
    expected = makespan([pack.seconds for _, _, pack in queue] + added, concurrent) if known else math.nan
    live = LiveReport([run.folder for run, _ in planned], top / "report.html")
    with ProgressDisplay(console, displayed, to_add, earlier, concurrent) as progress:
        limited = any(_add_late(run, plan) for run, plan in planned)
        watched = [(run, MissingMetric(run.prepared), FailuresAlike(run.prepared, run.ledger)) for run, _ in planned]
        batches = executor.run(_packs(queue, planned, runs_of_trial, progress), concurrent if limited else None)
        redactor = Redactor()
        with contextlib.closing(batches):  # type: ignore[type-var]
            for batch in batches:
                reports = [_redacted(report, redactor) for report in batch]
                reports_of = {run: [report for report in reports if run in runs_of_trial[report.trial_id]] for run, _ in planned}
                for run, own in reports_of.items():
                    if own:
                        run.ledger.record(own)
                for report in reports:
                    if report.error:
                        raise CannotWrite(*report.error)
                    progress.update(report)
                for run, own in reports_of.items():
                    _update_source(console, run, own)
                progress.will_add(sum(run.prepared.to_add for run, _ in planned))
                for run, metrics, alike in watched:
                    for report in reports_of[run]:
                        if warning := metrics.take(report):
                            console.print(warning, soft_wrap=True)
                        alike.take(report)
                        check_length(run.prepared, report)
                if any(report.kind in ("measured", "ended") for report in reports):
                    live.refresh()
    elapsed = time.time() - began
    most = "at most " if any(run.prepared.may_end_early for run, _ in planned) else ""
    for run, _ in planned:
        run.ledger.event("trained", f"{elapsed:.1f} s, expected {expected:.1f} s")
    console.print(f"all trials ended after {duration(elapsed)}" + (f" (expected {most}{duration(expected)})" if known else ""))


def _redacted(report: TrialReport, redactor: Redactor) -> TrialReport:
    """The report without secrets in its texts, as the ledger records and everything else shows it."""
    if not (report.reason or report.metadata):
        return report
    return replace(report, reason=redactor.text(report.reason), metadata=redactor.value(report.metadata))


def _add_late(run: OpenRun, plan: Plan) -> bool:
    """True if trials must be given to the executor as late as possible.

    A source then knows the results of more trials. Where trials are compared, one whose process died starts again before others begin, so
    that the decisions are those of an undisturbed run.
    """
    compared = run.prepared.launch.early_stopping.scheduler != "none"
    return plan.allocation.num_workers > 1 or run.prepared.source is not None or compared


def _displayed_trial(run: OpenRun, plan: Plan, trial: Trial, pack: PlannedPack | None = None) -> DisplayedTrial:
    measured = run.prepared.measured.get(trial.trial_id)
    stacked = len(pack.trials) if pack and pack.stacked else 1
    expected_s = pack.seconds / stacked if pack and pack.stacked else plan.seconds(trial)
    return DisplayedTrial(trial.configuration, trial.task.seed, run.prepared.metric.name, expected_s, measured, stacked)


def _packs(
    queue: Sequence[tuple[OpenRun, Plan, PlannedPack]],
    planned: Sequence[tuple[OpenRun, Plan]],
    runs_of_trial: dict[str, list[OpenRun]],
    progress: ProgressDisplay,
) -> Iterator[Pack]:
    """The packs of the queue, then the trials that sources add.

    The first trial of each configuration times inference: other seeds have the same layers.
    """
    timed: set[tuple[Path, str]] = set()

    def assignment(run: OpenRun, plan: Plan, trial: Trial) -> Assignment:
        first = (run.folder, trial.configuration) not in timed
        timed.add((run.folder, trial.configuration))
        return _assignment(run, plan, trial, run.prepared.launch.latency if first else "none")

    for run, plan, pack in queue:
        yield Pack(tuple(assignment(run, plan, trial) for trial in pack.trials), pack.stacked)
    for run, plan in planned:
        source = run.prepared.source
        position = len(run.prepared.trials) + run.prepared.earlier
        for group in source.groups() if source else ():
            for pack in plan.packs(group):
                taken = [trial for trial in pack.trials if source and source.take(trial)]
                for trial in taken:
                    run.ledger.add(prepare.ledger_row(replace(trial, position=position)))
                    position += 1
                    runs_of_trial[trial.trial_id] = [run]
                    progress.add(trial.trial_id, _displayed_trial(run, plan, trial, pack))
                if taken:
                    yield Pack(tuple(assignment(run, plan, trial) for trial in taken), pack.stacked and len(taken) > 1)


def _assignment(run: OpenRun, plan: Plan, trial: Trial, latency: str) -> Assignment:
    population, launch = run.prepared.population, run.prepared.launch
    optional: Mapping[str, Any] = {}
    if population:  # others continue from its state at its last comparison, which is at most about one interval ago
        optional = {"changed": {key: getattr(trial.task, key) for key in population}, "keep_measured": 2 * launch.search.every}
    return plan.allocation.assignment(
        replace(trial, task=with_precision(trial.task, plan.precision)),
        (run.folder / "trials" / trial.trial_id).resolve(),
        launch.checkpoint_every_s,
        latency=latency,
        log=(run.folder / "launch.log").resolve() if run.prepared.address is None else None,  # a cluster's nodes may not have the folder
        url=run.url and f"{run.url}/trials/{trial.trial_id}",
        trial_timeout_s=None if launch.trial_timeout_s == "none" else launch.trial_timeout_s,
        stall_timeout_s=None if launch.stall_timeout_s == "none" else launch.stall_timeout_s,
        may_grow=run.prepared.executor == "ray" and not population,
        **optional,
    )


def _link_trial_folder(first: OpenRun, other: OpenRun, trial_id: str) -> None:
    """Link the folder of a trial that is in two sweeps into the second sweep's run, unless one is a link to the other.

    The links of an interrupted run lead nowhere if the trial had not begun.
    """
    link, target = other.folder / "trials" / trial_id, first.folder / "trials" / trial_id
    link.parent.mkdir(exist_ok=True)
    if not (os.path.lexists(link) or target.is_symlink()):
        link.symlink_to(Path("../..") / first.folder.name / "trials" / trial_id, target_is_directory=True)


def _update_source(console: Console, run: OpenRun, reports: Sequence[TrialReport]) -> None:
    """Tell what adds trials to the run which ones have ended. Print and record what it decides."""
    source, metric = run.prepared.source, run.prepared.metric
    if source is None:
        return
    for report in reports:
        if report.kind == "ended":
            ended_well = report.status in COUNTED
            source.ended(report.trial_id, run.ledger.best_value(report.trial_id, metric.name, metric.mode) if ended_well else None)
    if news := source.news():
        run.ledger.note(**{source.entry: source.record()})
        for line in news:
            run.ledger.event(source.entry, line)
            console.print(line, soft_wrap=True)
