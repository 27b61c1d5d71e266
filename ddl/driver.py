"""The driver of one or several runs: plans them, has an executor train them as one queue, and records what it reports."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from ddl.config import ConfigError
from ddl.ledger import Ledger
from ddl.reports.live import LiveReport
from ddl.sweeps import plan as planning
from ddl.sweeps import prepare
from ddl.sweeps.executors import Executor, InlineExecutor
from ddl.sweeps.plan import Plan
from ddl.sweeps.prepare import PreparedRun
from ddl.sweeps.space import Trial
from ddl.sweeps.worker import Assignment, with_precision
from ddl.terminal import DisplayedTrial, ProgressDisplay, show_activity, show_plan
from ddl.trial_report import TrialReport
from ddl.units import duration


@dataclass(frozen=True)
class OpenRun:
    """A run under way."""

    job: PreparedRun
    folder: Path
    ledger: Ledger
    url: str
    """Where its folder is kept besides; empty for nowhere else."""


def make_executor(composed: Sequence[PreparedRun], scratch: Path) -> Executor:
    first = composed[0]
    if first.executor == "inline":
        return InlineExecutor()
    from ddl.sweeps import ray_schedulers  # a second that a mistyped option should not cost
    from ddl.sweeps.ray_tune import RayExecutor

    # Several sweeps in one queue have no scheduler; that was seen to when they were composed.
    scheduler = None if len(composed) > 1 else ray_schedulers.make_scheduler(first.launch, first.metric, first.population, first.history)
    packages = {"ddl"} | {job.about["task_class"].partition(".")[0] for job in composed}
    return RayExecutor(first.address, max(job.launch.retries for job in composed), scratch, scheduler, packages)


def make_plans(console: Console, composed: Sequence[PreparedRun], place: Executor, out: Path) -> list[Plan]:
    """A plan for each; sweeps of the same task get the same precision, so that a trial that two of them have is one."""
    problems: list[str] = []
    plans: list[Plan] = []
    settled: dict[type, str] = {}
    for job in composed:
        allocation = job.allocation or planning.allocate(
            job.launch, place.capacity(), sum(j.size for j in composed), job.executor == "inline", problems
        )
        if problems:
            raise ConfigError(problems)
        timed = [*job.trials, *(job.search.examples() if job.search and job.to_sample else [])]
        task = type(timed[0].task)
        with show_activity(console, f"{job.name}: timing the first steps of each configuration"):
            precision = job.precision if job.resumed else settled.get(task)
            # A resumed run keeps its share: the same number of threads gives the same numbers.
            launch = replace(job.launch, resources=replace(job.launch.resources, gpus=allocation.gpus)) if job.resumed else job.launch
            plan = planning.choose_plan(timed, job.trials, job.to_sample, allocation, place, launch, precision, out)
        settled.setdefault(task, plan.precision)
        plans.append(plan)
        if len(composed) > 1:
            console.print(f"[bold]{job.name}[/bold]")
        show_plan(console, plan, timed if job.to_sample else job.trials, job.to_sample)
    return plans


def train_runs(console: Console, under: Sequence[tuple[OpenRun, Plan]], place: Executor, top: Path) -> None:
    """Train all to their ends; the report in the folder `top` is kept up to date meanwhile."""
    began = time.time()
    owners: dict[str, list[OpenRun]] = {}
    queue = [(one, plan, trial) for one, plan in under for trial in one.job.trials]
    if len(under) > 1:
        # What lasts longest begins first, so that no core idles at the end (Graham, SIAM J. Appl. Math. 17, 1969).
        queue.sort(key=lambda item: -item[1].seconds(item[2]))
    for one, _, trial in queue:
        owners.setdefault(trial.trial_id, []).append(one)
    shown = {trial.trial_id: _shown(one, plan, trial) for one, plan, trial in queue}
    to_sample, earlier = sum(one.job.to_sample for one, _ in under), sum(one.job.earlier for one, _ in under)
    concurrent = max(plan.allocation.concurrent for _, plan in under)
    expected = planning.makespan(
        [s.expected_s for s in shown.values()] + [plan.mean_s for one, plan in under for _ in range(one.job.to_sample)], concurrent
    )
    live = LiveReport([one.folder for one, _ in under], top / "report.html")
    with ProgressDisplay(console, shown, to_sample, earlier, concurrent) as progress:
        # What a search draws should not wait, drawn, for a place: the more has ended, the better it draws.
        limited = any(plan.allocation.num_workers > 1 or one.job.search for one, plan in under)
        limit = concurrent if limited else None
        reports = place.run(_assignments(queue, under, owners, progress), limit)
        best: dict[str, list[float]] = {}
        with contextlib.closing(reports):  # type: ignore[type-var]
            for report in reports:
                for one in owners[report.trial_id]:
                    one.ledger.record(report)
                _tell(owners[report.trial_id], report, best)
                progress.update(report)
                if report.kind in ("measured", "ended"):
                    live.refresh()
    for one, _ in under:
        one.ledger.event("trained", f"{time.time() - began:.1f} s, expected {expected:.1f} s")
    console.print(f"all trials ended after {duration(time.time() - began)} (expected {duration(expected)})")


def _shown(one: OpenRun, plan: Plan, trial: Trial) -> DisplayedTrial:
    measured = one.job.measured.get(trial.trial_id)
    return DisplayedTrial(trial.configuration, trial.task.seed, one.job.metric.name, plan.seconds(trial), measured)


def _assignments(
    queue: Sequence[tuple[OpenRun, Plan, Trial]],
    under: Sequence[tuple[OpenRun, Plan]],
    owners: dict[str, list[OpenRun]],
    progress: ProgressDisplay,
) -> Iterator[Assignment]:
    """Each trial once, whichever sweeps have it, then those that searches draw."""
    begun: set[str] = set()
    for one, plan, trial in queue:
        if trial.trial_id not in begun:
            begun.add(trial.trial_id)
            yield _assignment(one, plan, trial)
        else:
            _share_files(owners[trial.trial_id][0], one, trial.trial_id)
    for one, plan in under:
        if one.job.search:
            for trial in one.job.search.trials(len(one.job.trials) + one.job.earlier):
                one.ledger.add(prepare.ledger_row(trial))
                owners[trial.trial_id] = [one]
                progress.add(trial.trial_id, _shown(one, plan, trial))
                yield _assignment(one, plan, trial)


def _assignment(one: OpenRun, plan: Plan, trial: Trial) -> Assignment:
    settled = replace(trial, task=with_precision(trial.task, plan.precision))
    given = plan.allocation.assignment(
        settled, (one.folder / "trials" / trial.trial_id).resolve(), one.job.launch.checkpoint_every_s, one.job.launch.latency
    )
    given = replace(given, url=one.url and f"{one.url}/trials/{trial.trial_id}")
    if not one.job.population:
        return given
    return replace(given, changed={key: getattr(trial.task, key) for key in one.job.population}, store_measured=True)


def _share_files(first: OpenRun, other: OpenRun, trial_id: str) -> None:
    """A trial that two sweeps have leaves its files once."""
    link = other.folder / "trials" / trial_id
    link.parent.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(Path("../..") / first.folder.name / "trials" / trial_id, target_is_directory=True)


def _tell(owners: Sequence[OpenRun], report: TrialReport, measured: dict[str, list[float]]) -> None:
    """Keep what a search judges by, and tell it when the trial has ended."""
    for one in owners:
        if one.job.search is None:
            continue
        values = measured.setdefault(report.trial_id, [])
        if one.job.metric.name in report.metrics:
            values.append(report.metrics[one.job.metric.name])
        if report.kind == "ended":
            one.job.search.ended(
                report.trial_id, prepare.best_value(one.job.metric, values) if report.status in ("finished", "stopped") else None
            )
