"""Prepares a run: composed from a sweep's name, or read from the ledger of an interrupted run."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ddl import config
from ddl.composed_sweep import Sweep
from ddl.function_sweep import FunctionSweep, compose_function_sweep
from ddl.ledger_tables import TrialRow
from ddl.schema import Launch, Metric, Reference
from ddl.sweeps import space
from ddl.sweeps.allocation import Allocation, allocate, check_gpus
from ddl.sweeps.capacity import local_capacity
from ddl.sweeps.space import Trial
from ddl.sweeps.trial_source import TrialSource
from ddl.tasks.loading import code_entries, task_class_path


@dataclass(frozen=True)
class RunOptions:
    """Options of the command or arguments of `run_sweep`, without the sweep's name. `out` is the local folder of all runs, if known."""

    overrides: tuple[str, ...]
    scale: str
    executor: str
    address: str | None
    out: Path | None = None


@dataclass(frozen=True)
class PreparedRun:
    """A new or resumed run, ready to be planned and trained.

    `trials` are those left to train, `earlier` is the number of trials that ended before, `done` the part of each begun trial
    that its newest checkpoint has, by its id; `source` adds further trials during the run. `history` has the earlier measurements for the scheduler, as (trial id, percent of its steps, metric).
    `measured` has the last value of the metric of every trial that was started. `population` are the axes that population
    based training changes. `changed_code` are the user's source files that have changed since the run began. `about` are the run's
    entries in its ledger. `notes` returns lines that the plan shows.
    """

    name: str
    launch: Launch
    metric: Metric
    executor: str
    address: str | None
    trials: Sequence[Trial]
    source: TrialSource | None
    population: Mapping[str, Any]
    about: Mapping[str, Any]
    earlier: int = 0
    done: Mapping[str, float] = field(default_factory=dict)
    precision: str | None = None
    allocation: Allocation | None = None
    history: Sequence[tuple[str, float, float]] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    changed_code: Sequence[str] = ()
    notes: Callable[[], Sequence[str]] = tuple

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
    def to_add(self) -> int:
        """Largest number of trials that the source will still add."""
        return self.source.left if self.source else 0

    @property
    def may_end_early(self) -> bool:
        """True if fewer than `to_add` trials may be added."""
        return self.source is not None and self.source.may_end_early

    @property
    def timed(self) -> Sequence[Trial]:
        """The trials left, and examples of those that will be added: the first steps of these are timed."""
        return [*self.trials, *(self.source.examples() if self.source and self.to_add else [])]

    @property
    def size(self) -> int:
        """Number of trials left to train."""
        return len(self.trials) + self.to_add


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
    source, trials = _trials(composed, problems)
    population = _population_axes(composed, problems) if composed.launch.search.algorithm == "pbt" else {}
    impossible: list[str] = []
    check_gpus(composed.launch, impossible)
    problems += impossible
    if options.address is None and not impossible:  # only to find impossible requests; the plan allocates for all sweeps of the command
        allocate(composed.launch, local_capacity(), max(len(trials), 1), options.executor == "inline", problems)
    if not (trials or source):
        return None
    examples = [*trials, *(source.examples() if source else [])]
    if options.address is None:
        missing = [name for name in files_read(examples) if not Path(name).expanduser().exists()]
        problems += [
            f"{composed.name}: reads {name}, but there is no such file or folder in {Path.cwd()}. Correct the path." for name in missing
        ]
    file = composed.file
    names = {trial.configuration for trial in trials}
    published_notes: list[str] = []
    reference = _reference(composed, names, published_notes, problems)
    measurements = composed.measurements if composed.function else None
    about = {
        "sweep": {
            "name": composed.name,
            "title": file.title,
            "task": file.task,
            "metric": asdict(file.metric),
            "seeds": composed.launch.most_seeds,
            "keys": list(examples[0].swept),
            "forced": [f"task.{name}" for name in composed.forced],
            "reference": asdict(reference) if reference else None,
        },
        "scale": composed.scale,
        "overrides": list(options.overrides),
        "task_class": task_class_path(composed.task_class),
        "launch": asdict(composed.launch),
        "executor": options.executor,
        **({source.entry: source.record()} if source else {}),
        "population": population,
        **code_entries(composed.task_class.__module__, composed.code_folder, composed.function, measurements),
    }
    return PreparedRun(
        name=composed.name,
        launch=composed.launch,
        metric=file.metric,
        executor=options.executor,
        address=options.address,
        trials=trials,
        source=source,
        population=population,
        about=about,
        notes=partial(_notes, composed, len(names) or file.samples, options.out, published_notes),
    )


def _notes(sweep: Sweep, configurations: int, out: Path | None, published: Sequence[str]) -> list[str]:
    from ddl.sweeps.seeds_note import seeds_note  # imports SciPy

    return [seeds_note(sweep, configurations, out), *published]


def _trials(sweep: Sweep, problems: list[str]) -> tuple[TrialSource | None, Sequence[Trial]]:
    """The source that adds trials to a sweep while it runs, and the trials that it begins with."""
    if sweep.launch.search.algorithm == "tpe" and not sweep.launch.race:
        from ddl.sweeps.search import TpeSearch  # importing Optuna takes a second

        return TpeSearch.of(sweep, problems), []
    trials = space.expand_trials(sweep, problems)
    if sweep.launch.race is None or not trials:
        return None, trials
    from ddl.sweeps.race import Race

    race = Race.of(sweep, trials, problems)
    return (race, race.first_trials) if race else (None, trials)


def files_read(trials: Sequence[Trial]) -> list[str]:
    """The files of the user's that the tasks read, each once."""
    return sorted({name for trial in trials for name in trial.task.files()})


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
