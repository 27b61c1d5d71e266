"""Prepares the rest of an interrupted run, from its ledger alone."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ddl import checkpoints
from ddl.config import ConfigError
from ddl.ledger import Ledger
from ddl.ledger_tables import COUNTED, TrialRow
from ddl.run_folder import TRIALS
from ddl.schema import ADDED_LATER, Launch, Metric
from ddl.sweeps.allocation import check_inline, recorded_allocation
from ddl.sweeps.executor_choice import check_address
from ddl.sweeps.prepare import PreparedRun
from ddl.sweeps.space import Trial
from ddl.sweeps.trial_source import TrialSource
from ddl.tasks.loading import RecordedTasks

if TYPE_CHECKING:
    import pandas as pd


def prepare_resume(
    ledger: Ledger,
    executor: str | None,
    address: str | None,
    trust: bool = False,
    allow_changed_code: bool = False,
    function: Callable[..., Any] | None = None,
    again: Collection[str] = (),
) -> PreparedRun:
    """Prepare the rest of a run. Finished, stopped and diverged trials stay as they are, failed ones are tried again.

    `trust` and `function` as in `RecordedTasks`. `again`: ids of trials that are prepared although they have ended. Raises ConfigError if the run has settings that `executor` does not support, and
    ValueError if its record cannot be read or asks for more than a run from elsewhere may have, and, without `allow_changed_code`, if the
    source of its task has changed.
    """
    about = ledger.run("sweep.name", "sweep.metric.name", "sweep.metric.mode", "task_class", "launch", "executor")
    tasks = RecordedTasks(about, ledger.path, trust, function)
    if not allow_changed_code:
        advice = "Its other trials would not be comparable with those that have ended. Restore the code, begin a new run,"
        tasks.check_code(str(ledger.path.parent), advice)
    try:
        return _rest_of_run(ledger, about, tasks, executor, address, again)
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{ledger.path}: the record of the run does not fit this version of ddl, or is damaged ({type(error).__name__}: {reason})."
            " Resume it with the commit that wrote it, or restore it from a copy."
        ) from error


def _rest_of_run(
    ledger: Ledger, about: Mapping[str, Any], tasks: RecordedTasks, executor: str | None, address: str | None, again: Collection[str]
) -> PreparedRun:
    launch = Launch(**ADDED_LATER | about["launch"])
    metric = Metric(**about["sweep"]["metric"])
    executor = executor or about["executor"]
    problems: list[str] = []
    check_inline(launch, executor == "inline", problems)
    check_address(executor, address, "Remove it, or add --executor ray", problems)
    if problems:
        raise ConfigError(problems)
    rows = ledger.trials()
    left = [row for row in rows if row.status in ("planned", "running", "failed") or row.trial_id in again]
    metrics = ledger.metrics()
    metrics = metrics[metrics.name == metric.name]
    source: TrialSource | None = None
    if about.get("search") or about.get("race"):
        best = {row.trial_id: ledger.best_value(row.trial_id, metric.name, metric.mode) for row in rows if row.status in COUNTED}
        if about.get("race"):
            from ddl.sweeps.race import Race

            source = Race.resumed(about["race"], tasks, rows, best, launch.first_seed)
            for line in source.news():  # the driver ended before it could decide
                ledger.event(source.entry, line)
            ledger.note(**{source.entry: source.record()})
        else:
            from ddl.sweeps.search import TpeSearch

            source = TpeSearch.resumed(about["search"], tasks.task_class, rows, best)
            for example in source.examples():
                tasks.check_files(example.task)
    plan = about.get("plan")
    return PreparedRun(
        name=about["sweep"]["name"],
        launch=launch,
        metric=metric,
        executor=executor,
        address=address,
        trials=[_recorded_trial(row, about, tasks) for row in left],
        source=source,
        population=about.get("population", {}),
        about=about,
        earlier=len(rows) - len(left),
        done=_parts_done(ledger.folder, left),
        # The same precision and number of threads as before, so that the results are those of an undisturbed run.
        precision=plan["precision"] if plan else None,
        allocation=recorded_allocation(plan) if plan else None,
        history=() if launch.early_stopping.scheduler == "none" else _history(metrics, rows),
        measured=dict(zip(metrics.trial_id, metrics.value, strict=True)),
        changed_code=tasks.changed,
    )


def _parts_done(run: Path, rows: Sequence[TrialRow]) -> dict[str, float]:
    """The part of its steps that the newest local checkpoint of each trial has, by the trial's id."""
    steps = {row.trial_id: checkpoints.newest_step(run / TRIALS / row.trial_id / "checkpoints") for row in rows if row.attempts}
    total = {row.trial_id: (row.metadata or {}).get("total_steps") or 0 for row in rows}
    return {trial_id: min(step / total[trial_id], 1.0) for trial_id, step in steps.items() if step and total[trial_id]}


def _recorded_trial(row: TrialRow, about: Mapping[str, Any], tasks: RecordedTasks) -> Trial:
    """The trial of a ledger row. `about` is the record of its run."""
    task = tasks.build(row.hyperparameters(about))
    return Trial(trial_id=row.trial_id, position=row.position, configuration=row.configuration, swept=row.swept, task=task)


def _history(metrics: "pd.DataFrame", rows: Sequence[TrialRow]) -> list[tuple[str, float, float]]:
    """Measurements of all trials that have not diverged, in the order of the ledger, as (trial id, percent of its steps, metric).

    `metrics` has one metric.
    """
    total = {row.trial_id: (row.metadata or {}).get("total_steps") for row in rows if row.status != "diverged"}
    measured = zip(metrics.trial_id, metrics.step, metrics.value, strict=True)
    return [(trial_id, min(100 * step / steps, 100.0), value) for trial_id, step, value in measured if (steps := total.get(trial_id))]
