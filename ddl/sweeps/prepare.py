"""What is left to do of a run: composed from a sweep's name, or read from the ledger of a run that was cut off."""

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddl import config, provenance
from ddl.config import ConfigError
from ddl.ledger import Ledger, TrialRow
from ddl.schema import Launch, Metric, Sweep
from ddl.sweeps import plan as planning
from ddl.sweeps import space
from ddl.sweeps.executors import local_capacity
from ddl.sweeps.search import TpeSearch
from ddl.sweeps.space import Trial
from ddl.tasks.loading import load_task_class, task_class_path

if TYPE_CHECKING:
    import pandas as pd

EXECUTORS = ("ray", "inline")


@dataclass(frozen=True)
class RunOptions:
    """What the user gives beside a sweep's name: the command's options, or `run_sweep`'s arguments."""

    overrides: tuple[str, ...]
    scale: str
    executor: str
    address: str | None


@dataclass(frozen=True)
class PreparedRun:
    """A run, fresh or resumed: its `trials` are those left to train, `earlier` counts those that ended before.

    `search` draws further trials while it runs; of these there will be `to_sample`. `history` is what schedulers judge by, of
    trials that have ended: (percent of its steps, metric) of each measurement. `measured` is what the metric was last, of every trial that
    has begun. `population` are the axes whose values change while
    trials train (pbt). `about` is what its ledger says of a fresh run.
    """

    name: str
    launch: Launch
    metric: Metric
    executor: str
    address: str | None
    trials: Sequence[Trial]
    earlier: int
    precision: str | None
    allocation: planning.Allocation | None
    history: Mapping[str, Sequence[tuple[float, float]]]
    measured: Mapping[str, float]
    search: TpeSearch | None
    population: Mapping[str, Any]
    about: Mapping[str, Any]

    @property
    def resumed(self) -> bool:
        return self.precision is not None

    @property
    def to_sample(self) -> int:
        return self.search.left if self.search else 0

    @property
    def size(self) -> int:
        """How many trials are left."""
        return len(self.trials) + self.to_sample


def ledger_row(trial: Trial) -> TrialRow:
    """The trial as the ledger keeps it."""
    return TrialRow(trial.trial_id, trial.position, trial.configuration, trial.swept, trial.hyperparameters, trial.task.seed)


def prepare_run(sweep: str, asked: RunOptions, problems: list[str]) -> PreparedRun | None:
    """The job of a sweep, named or in a YAML file. What is wrong goes into `problems`; None where too much is."""
    composed = config.compose_sweep(sweep, asked.overrides, asked.scale, problems)
    if composed is None:
        return None
    search, trials = None, []
    if composed.launch.search.algorithm == "tpe":
        search = TpeSearch.of(composed, problems)
    else:
        trials = space.expand_trials(composed, problems)
    population = _population(composed, problems) if composed.launch.search.algorithm == "pbt" else {}
    if asked.address is None:  # the share is reckoned with those of other sweeps; here, what is impossible is said
        planning.allocate(composed.launch, local_capacity(), max(len(trials), 1), asked.executor == "inline", problems)
    if not (trials or search):
        return None
    file = composed.file
    about = {
        "sweep": {
            "name": composed.name,
            "title": file.title,
            "task": file.task,
            "metric": asdict(file.metric),
            "seeds": composed.launch.seeds,
            "keys": search.keys if search else list(trials[0].swept),
            "reference": asdict(file.reference) if file.reference else None,
        },
        "scale": asked.scale,
        "overrides": list(asked.overrides),
        "task_class": task_class_path(composed.task_class),
        "launch": asdict(composed.launch),
        "executor": asked.executor,
        "search": search.record() if search else None,
        "population": population,
    }
    return PreparedRun(
        name=composed.name,
        launch=composed.launch,
        metric=file.metric,
        executor=asked.executor,
        address=asked.address,
        trials=trials,
        earlier=0,
        precision=None,
        allocation=None,
        history={},
        measured={},
        search=search,
        population=population,
        about=about,
    )


def _population(sweep: Sweep, problems: list[str]) -> dict[str, Any]:
    """The axes that population based training changes; what stands against it goes into `problems`."""
    axes = {key: axis for key, axis in sweep.space.items() if isinstance(axis, dict)}
    where = sweep.where["space"]
    if not axes:
        problems.append(
            f"{where}: search.algorithm: pbt changes values, but no axis is a distribution. Give one, as in {{uniform: [0.1, 0.5]}}."
        )
    for key in axes:
        if key not in sweep.task_class.changeable:
            may = ", ".join(f"task.{name}" for name in sweep.task_class.changeable) or "none"
            problems.append(
                f"{sweep.where[f'space.{key}']}: task.{key}: cannot change while a trial trains, as pbt would have it. Those that can: {may}."
            )
    if (scheduler := sweep.launch.early_stopping.scheduler) != "none":
        problems.append(
            f"{where}: early_stopping.scheduler: {scheduler} stops trials that pbt would let go on from others. Take one of the two."
        )
    return axes


def begin_run(job: PreparedRun, folder: Path, command: str, place: str, url: str) -> Ledger:
    """The ledger of a fresh run in the existing `folder`. `command` is how to run it again, `place` what to resume; `url` is where the
    run is kept besides, or empty."""
    about = {
        **job.about,
        **provenance.code(),
        "command": command,
        "resume": resume_command(place),
        "url": url,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": provenance.versions(),
        "host": provenance.host(),
    }
    return Ledger.create(folder, about, [ledger_row(trial) for trial in job.trials])


def prepare_resume(ledger: Ledger, executor: str | None, address: str | None) -> PreparedRun:
    """What is left of a run: trials that finished, were stopped or diverged are left alone, failed ones are tried again.

    Raises ConfigError where the run asks for what `executor` cannot do.
    """
    about = ledger.run()
    cls = load_task_class(about["task_class"])
    rows = ledger.trials()
    left = [row for row in rows if row.status in ("planned", "running", "failed")]
    trials = [Trial(row.trial_id, row.position, row.configuration, row.swept, cls(**row.task)) for row in left]
    plan = about.get("plan")
    launch, metric = Launch(**about["launch"]), Metric(**about["sweep"]["metric"])
    problems: list[str] = []
    executor = executor or about["executor"]
    planning.check_inline(launch, executor == "inline", problems)
    if problems:
        raise ConfigError(problems)
    metrics = ledger.metrics()
    metrics = metrics[metrics.name == metric.name]
    history = _history(metrics, rows)
    search = None
    if about.get("search"):
        search = TpeSearch.resumed(
            about["search"], cls, rows, {trial: best_value(metric, [value for _, value in seen]) for trial, seen in history.items()}
        )
    return PreparedRun(
        name=about["sweep"]["name"],
        launch=launch,
        metric=metric,
        executor=executor,
        address=address,
        trials=[_changed(trial, row) for trial, row in zip(trials, left, strict=True)],
        earlier=len(rows) - len(left),
        # The same precision and as many threads as before, or the numbers would not be the same run's.
        precision=plan["precision"] if plan else None,
        allocation=planning.recorded_allocation(plan) if plan else None,
        history={} if launch.early_stopping.scheduler == "none" else history,
        measured=dict(zip(metrics.trial_id, metrics.value, strict=True)),
        search=search,
        population=about.get("population", {}),
        about=about,
    )


def _changed(trial: Trial, row: TrialRow) -> Trial:
    """The trial with the hyperparameters that a search had last given it."""
    changes = (row.metadata or {}).get("changed")
    return replace(trial, task=replace(trial.task, **changes)) if changes else trial


def best_value(metric: Metric, values: Sequence[float]) -> float | None:
    """The best of a trial's measurements; None where there is none."""
    return (max if metric.mode == "max" else min)(values) if values else None


def _history(metrics: "pd.DataFrame", rows: Sequence[TrialRow]) -> dict[str, list[tuple[float, float]]]:
    """Of trials that have ended well: (percent of its steps, metric) of each measurement. `metrics` are the metric's alone."""
    total = {row.trial_id: row.metadata["total_steps"] for row in rows if row.status in ("finished", "stopped") and row.metadata}
    found: dict[str, list[tuple[float, float]]] = {trial_id: [] for trial_id in total}
    mine = metrics[metrics.trial_id.isin(list(total))]
    for trial_id, step, value in zip(mine.trial_id, mine.step, mine.value, strict=True):
        found[trial_id].append((100 * step / total[trial_id], value))
    return found


def new_folder(out: Path, name: str) -> Path:
    """An empty folder for a run, `out`/`name`/its date and time."""
    stamp = time.strftime("%Y-%m-%d-%H%M%S")
    for attempt in range(1, 1000):
        folder = out / name / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("a thousand runs in one second")


def resume_command(folder: Path | str) -> str:
    return f"python launch.py --resume {shlex.quote(os.fspath(folder))}"
