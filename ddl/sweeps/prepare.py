"""Prepares a run: composed from a sweep's name, or read from the ledger of an interrupted run."""

import os
import shlex
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddl import config, ownership, provenance
from ddl.function_sweep import FunctionSweep, compose_function_sweep
from ddl.ledger import Ledger, TrialRow
from ddl.program import program
from ddl.redaction import Redactor
from ddl.schema import Launch, Metric, Reference, Sweep
from ddl.sweeps import space
from ddl.sweeps.allocation import Allocation, allocate, check_gpus
from ddl.sweeps.capacity import local_capacity
from ddl.sweeps.space import Trial
from ddl.tasks.loading import BUILT_IN, task_class_path
from ddl.tasks.user_code import hash_sources
from ddl.yamlfile import FOLDER

if TYPE_CHECKING:
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
    if options.address is None:
        missing = [name for name in _files(trials, search) if not Path(name).expanduser().exists()]
        problems += [
            f"{composed.name}: reads {name}, but there is no such file or folder in {Path.cwd()}. Correct the path." for name in missing
        ]
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


def _files(trials: Sequence[Trial], search: "TpeSearch | None") -> list[str]:
    """The files of the user's that the tasks read, each once."""
    examples = search.examples() if search else []
    return sorted({name for trial in [*trials, *examples] for name in trial.task.files()})


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
    Secrets in the texts that the report shows are withheld; hyperparameters are recorded as they are, because a resume needs them.
    """
    redact = Redactor().value
    about = {
        **run.about,
        "overrides": redact(run.about["overrides"]),
        **redact(provenance.code()),
        "files": _files(run.trials, run.search),
        "command": redact(command),
        "resume": resume_command(place),
        "url": url,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": provenance.versions(),
        "host": provenance.host(),
    }
    return Ledger.create(folder, about | {ownership.MARK: ownership.mark(about)}, [ledger_row(trial) for trial in run.trials])


def best_value(metric: Metric, values: Sequence[float]) -> float | None:
    """The best of a trial's measurements; None if there is none."""
    return (max if metric.mode == "max" else min)(values) if values else None


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
