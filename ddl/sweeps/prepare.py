"""Prepares a run: composed from a sweep's name, or read from the ledger of an interrupted run."""

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ddl import config, ownership, provenance
from ddl.config import ConfigError
from ddl.function_sweep import FunctionSweep, compose_function_sweep
from ddl.ledger import Ledger, TrialRow
from ddl.program import program
from ddl.schema import Launch, Metric, Reference, Sweep
from ddl.sweeps import space
from ddl.sweeps.allocation import Allocation, allocate, check_gpus, check_inline, recorded_allocation
from ddl.sweeps.capacity import local_capacity
from ddl.sweeps.space import Trial
from ddl.tasks.loading import BUILT_IN, RecordedTasks, task_class_path
from ddl.tasks.user_code import hash_sources
from ddl.yamlfile import FOLDER

if TYPE_CHECKING:
    import pandas as pd

    from ddl.sweeps.search import TpeSearch

EXECUTORS = ("ray", "inline")


@dataclass(frozen=True)
class RunOptions:
    """Options of the command or arguments of `run_sweep`, without the sweep's name."""

    overrides: tuple[str, ...]
    scale: str
    executor: str
    address: str | None


@dataclass(frozen=True)
class PreparedRun:
    """A new or resumed run, ready to be planned and trained.

    `trials` are those left to train, `earlier` is the number of trials that ended before, `search` samples further trials
    during the run. `history` has the earlier measurements for the scheduler, as (trial id, percent of its steps, metric).
    `measured` has the last value of the metric of every trial that was started. `population` are the axes that population
    based training changes. `changed_code` are the user's source files that have changed since the run began. `about` are the run's
    entries in its ledger. `notes` are lines that the plan shows.
    """

    name: str
    launch: Launch
    metric: Metric
    executor: str
    address: str | None
    trials: Sequence[Trial]
    search: "TpeSearch | None"
    population: Mapping[str, Any]
    about: Mapping[str, Any]
    earlier: int = 0
    precision: str | None = None
    allocation: Allocation | None = None
    history: Sequence[tuple[str, float, float]] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    changed_code: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def resumed(self) -> bool:
        """True for a resumed run whose plan is in the ledger."""
        return self.precision is not None

    @property
    def packages(self) -> set[str]:
        """Top-level names of the modules that have the task and the user's other code."""
        module = self.about["task_class"].rpartition(".")[0]
        return {name.partition("/")[0].partition(".")[0] for name in (module, *self.about.get("code", {})) if not name.startswith("/")}

    @property
    def to_sample(self) -> int:
        """Number of trials that the search will still sample."""
        return self.search.left if self.search else 0

    @property
    def size(self) -> int:
        """Number of trials left to train."""
        return len(self.trials) + self.to_sample


def ledger_row(trial: Trial) -> TrialRow:
    """The trial as a planned row of the ledger."""
    name, task, seed = trial.configuration, trial.hyperparameters, trial.task.seed
    return TrialRow(trial_id=trial.trial_id, position=trial.position, configuration=name, swept=trial.swept, task=task, seed=seed)


def prepare_run(sweep: str | FunctionSweep, options: RunOptions, problems: list[str]) -> PreparedRun | None:
    """Prepare a new run of a sweep: its name, its YAML file, or a function. Adds mistakes to `problems`; None if there is nothing to run."""
    if isinstance(sweep, FunctionSweep):
        composed = compose_function_sweep(sweep, options.overrides, problems)
    else:
        composed = config.compose_sweep(sweep, options.overrides, options.scale, problems)
    if composed is None:
        return None
    search, trials = None, []
    if composed.launch.search.algorithm == "tpe":
        from ddl.sweeps.search import TpeSearch  # importing Optuna takes a second

        search = TpeSearch.of(composed, problems)
    else:
        trials = space.expand_trials(composed, problems)
    population = _population_axes(composed, problems) if composed.launch.search.algorithm == "pbt" else {}
    impossible: list[str] = []
    check_gpus(composed.launch, impossible)
    problems += impossible
    if options.address is None and not impossible:  # only to find impossible requests; the plan allocates for all sweeps of the command
        allocate(composed.launch, local_capacity(), max(len(trials), 1), options.executor == "inline", problems)
    if not (trials or search):
        return None
    file = composed.file
    notes = [_seeds_note(composed)]
    reference = _reference(composed, {trial.configuration for trial in trials}, notes, problems)
    about = {
        "sweep": {
            "name": composed.name,
            "title": file.title,
            "task": file.task,
            "metric": asdict(file.metric),
            "seeds": composed.launch.seeds,
            "keys": search.keys if search else list(trials[0].swept),
            "reference": asdict(reference) if reference else None,
        },
        "scale": composed.scale,
        "overrides": list(options.overrides),
        "task_class": task_class_path(composed.task_class),
        "launch": asdict(composed.launch),
        "executor": options.executor,
        "search": search.record() if search else None,
        "population": population,
        **_user_code(composed),
    }
    return PreparedRun(
        name=composed.name,
        launch=composed.launch,
        metric=file.metric,
        executor=options.executor,
        address=options.address,
        trials=trials,
        search=search,
        population=population,
        about=about,
        notes=notes,
    )


def _user_code(sweep: Sweep) -> dict[str, Any]:
    """The entries of a run whose task is code of the user's: where it is imported from, and hashes of its source."""
    module = sweep.task_class.__module__
    if module.startswith(BUILT_IN):
        return {}
    entries = {"code_folder": sweep.code_folder, "code": hash_sources(module, sweep.code_folder, sweep.function)}
    return entries | ({"measurements": sweep.measurements} if sweep.function else {})


def _seeds_note(sweep: Sweep) -> str:
    """The line of the plan about the number of seeds."""
    seeds = sweep.launch.seeds
    default = " (default)" if Path(sweep.where["seeds"].rpartition(":")[0]) == FOLDER / "launch.yaml" else ""
    return f"seeds: {seeds}{default}" + ("; intervals need at least 2, as in seeds=3" if seeds == 1 else "")


def _reference(sweep: Sweep, names: Set[str], notes: list[str], problems: list[str]) -> Reference | None:
    """The published values by the configurations' `names`, of which a file may write `0.1` for `lr=0.1`.

    None, with a note, if the command line has chosen another metric than theirs. Adds to `problems` if they cannot be measured.
    """
    reference, metric = sweep.file.reference, sweep.file.metric.name
    if reference is None:
        return None
    name = reference.metric_name
    if name != metric and sweep.where["metric.name"] == config.COMMAND_LINE:
        notes.append(f"published values: not compared, because they are of {name} and the metric is {metric}")
        return None
    if name != metric and reference.metric.startswith("best "):
        problems.append(
            f"{sweep.where['reference.metric']}: reference.metric: {reference.metric}: only the sweep's metric has a best value. "
            f"Write best {metric} or last {name}."
        )
    axis = next(iter(sweep.space), "")
    values = {name if name in names or f"{axis}={name}" not in names else f"{axis}={name}": each for name, each in reference.values.items()}
    return replace(reference, values=values)


def _population_axes(sweep: Sweep, problems: list[str]) -> dict[str, Any]:
    """The axes that population based training changes. Adds settings that rule it out to `problems`."""
    axes = {key: axis for key, axis in sweep.space.items() if isinstance(axis, dict)}
    where = sweep.where["space"]
    if not axes:
        problems.append(
            f"{where}: search.algorithm: pbt changes sampled values, but no axis is a distribution. Add one, e.g. {{uniform: [0.1, 0.5]}}."
        )
    for key in axes:
        if key not in sweep.task_class.changeable:
            changeable = ", ".join(f"task.{name}" for name in sweep.task_class.changeable) or "none"
            problems.append(
                f"{sweep.where[f'space.{key}']}: task.{key}: pbt cannot change it while a trial trains. It can change: {changeable}."
            )
    if (scheduler := sweep.launch.early_stopping.scheduler) != "none":
        problems.append(
            f"{where}: early_stopping.scheduler: {scheduler} stops trials that pbt would continue. Set it to none, or search.algorithm to random."
        )
    return axes


def begin_run(run: PreparedRun, folder: Path, command: str, place: str, url: str) -> Ledger:
    """Create the ledger of a new run in the existing `folder`.

    `command` starts the same run again, `place` is the folder or URL to resume, `url` is the run's copy in an object store or empty.
    """
    tasks = [trial.task for trial in [*run.trials, *(run.search.examples() if run.search else [])]]
    about = {
        **run.about,
        **provenance.code(),
        "files": sorted({name for task in tasks for name in task.files()}),
        "command": command,
        "resume": resume_command(place),
        "url": url,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": provenance.versions(),
        "host": provenance.host(),
    }
    return Ledger.create(folder, about | {ownership.MARK: ownership.mark(about)}, [ledger_row(trial) for trial in run.trials])


def prepare_resume(
    ledger: Ledger,
    executor: str | None,
    address: str | None,
    trust: bool = False,
    allow_changed_code: bool = False,
    function: Callable[..., Any] | None = None,
) -> PreparedRun:
    """Prepare the rest of a run. Finished, stopped and diverged trials stay as they are, failed ones are tried again.

    `trust` and `function` as in `RecordedTasks`. Raises ConfigError if the run has settings that `executor` does not support, and
    ValueError if its record cannot be read or asks for more than a run from elsewhere may have, and, without `allow_changed_code`, if the
    source of its task has changed.
    """
    about = ledger.run("sweep.name", "sweep.metric.name", "sweep.metric.mode", "task_class", "launch", "executor")
    tasks = RecordedTasks(about, ledger.path, trust, function)
    if tasks.changed and not allow_changed_code:
        raise ValueError(
            f"{ledger.path.parent}: the code has changed since the run began: {', '.join(tasks.changed)}. Its other trials would not be "
            "comparable with those that have ended. Restore the code, begin a new run, or add --allow-changed-code."
        )
    try:
        return _rest_of_run(ledger, about, tasks, executor, address)
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{ledger.path}: the record of the run does not fit this version of ddl, or is damaged ({type(error).__name__}: {reason})."
            " Resume it with the commit that wrote it, or restore it from a copy."
        ) from error


def _rest_of_run(ledger: Ledger, about: Mapping[str, Any], tasks: RecordedTasks, executor: str | None, address: str | None) -> PreparedRun:
    # Earlier versions recorded runs without these.
    launch = Launch(**{"stack": "off", "trial_timeout_s": "none", "stall_timeout_s": "none"} | about["launch"])
    metric = Metric(**about["sweep"]["metric"])
    executor = executor or about["executor"]
    problems: list[str] = []
    check_inline(launch, executor == "inline", problems)
    if executor == "inline" and address:
        problems.append(f"--address {address}: inline trains in this process, without a cluster. Remove it, or add --executor ray.")
    if problems:
        raise ConfigError(problems)
    rows = ledger.trials()
    left = [row for row in rows if row.status in ("planned", "running", "failed")]
    metrics = ledger.metrics()
    metrics = metrics[metrics.name == metric.name]
    search = None
    if about.get("search"):
        ended_well = {row.trial_id for row in rows if row.status in ("finished", "stopped")}
        measured = metrics.groupby("trial_id")["value"]
        best = {str(trial_id): best_value(metric, list(values)) for trial_id, values in measured if trial_id in ended_well}
        from ddl.sweeps.search import TpeSearch

        search = TpeSearch.resumed(about["search"], tasks.task_class, rows, best)
        for example in search.examples():
            tasks.check_files(example.task)
    plan = about.get("plan")
    return PreparedRun(
        name=about["sweep"]["name"],
        launch=launch,
        metric=metric,
        executor=executor,
        address=address,
        trials=[_recorded_trial(row, tasks) for row in left],
        search=search,
        population=about.get("population", {}),
        about=about,
        earlier=len(rows) - len(left),
        # The same precision and number of threads as before, so that the results are those of an undisturbed run.
        precision=plan["precision"] if plan else None,
        allocation=recorded_allocation(plan) if plan else None,
        history=() if launch.early_stopping.scheduler == "none" else _history(metrics, rows),
        measured=dict(zip(metrics.trial_id, metrics.value, strict=True)),
        changed_code=tasks.changed,
    )


def _recorded_trial(row: TrialRow, tasks: RecordedTasks) -> Trial:
    """The trial of a ledger row, with the hyperparameters that population based training last gave it."""
    task = tasks.build({**row.task, **(row.metadata or {}).get("changed", {})})
    return Trial(trial_id=row.trial_id, position=row.position, configuration=row.configuration, swept=row.swept, task=task)


def best_value(metric: Metric, values: Sequence[float]) -> float | None:
    """The best of a trial's measurements; None if there is none."""
    return (max if metric.mode == "max" else min)(values) if values else None


def _history(metrics: "pd.DataFrame", rows: Sequence[TrialRow]) -> list[tuple[str, float, float]]:
    """Measurements of all trials that have not diverged, in the order of the ledger, as (trial id, percent of its steps, metric).

    `metrics` has one metric.
    """
    total = {row.trial_id: (row.metadata or {}).get("total_steps") for row in rows if row.status != "diverged"}
    measured = zip(metrics.trial_id, metrics.step, metrics.value, strict=True)
    return [(trial_id, 100 * step / steps, value) for trial_id, step, value in measured if (steps := total.get(trial_id))]


def new_folder(out: Path, name: str) -> Path:
    """Create an empty folder for a run: `out`/`name`/date and time."""
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
    """The command that resumes the run in `folder`, a path or URL."""
    return f"{program()} --resume {shlex.quote(os.fspath(folder))}"
