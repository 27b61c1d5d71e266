"""Prepares a confirmation: chosen configurations of a run, trained again on fresh seeds and scored once on test data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ddl.config import COMMAND_LINE, ConfigError, construct
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.overrides import SweepDraft, apply_overrides
from ddl.schema import ADDED_LATER, Launch, Metric
from ddl.sweeps.allocation import allocate, check_gpus, check_inline
from ddl.sweeps.capacity import local_capacity
from ddl.sweeps.executor_choice import check_address
from ddl.sweeps.prepare import PreparedRun
from ddl.sweeps.space import Trial, trial_identity
from ddl.tasks.fit_task import FitTask
from ddl.tasks.loading import RecordedTasks, code_entries
from ddl.tasks.task import Task

SEEDS = 10
"""Fresh seeds of each configuration if the user names no number."""

HOLDOUT = 0.1
"""Fraction of the training data that becomes validation data."""

SUFFIX = "-confirm"
"""End of a confirmation's name, after the name of the sweep."""

REFUSED = {
    "task": "the hyperparameters are those of the run. To try others, run the sweep with them",
    "metric": "a confirmation measures what the run was compared by",
    "samples": "the configurations are those of the run. Choose some of them with configurations=NAME,NAME",
    "until": "the number of seeds of a confirmation is set before it starts, as in seeds=20",
    "first_seed": "the seeds begin after those of the run, so that they are fresh",
    "early_stopping": "every trial of a confirmation is trained to its end",
    "search": "the configurations are those of the run. Choose some of them with configurations=NAME,NAME",
}
"""Keys that a confirmation does not take, with the reason."""


@dataclass(frozen=True)
class SearchResult:
    """The findings of a run, for its confirmation.

    place: its folder or URL. measure: what it compared, such as `best val/accuracy`. values: the measure by configuration and seed, the
    best configuration first; those without a value come last. evaluations: how many of its evaluations a trial had to be the best in, by
    configuration. taken: the seeds that are not fresh. unread: the earlier confirmations whose seeds are unknown, with the reason.
    """

    place: str
    measure: str
    values: Mapping[str, Mapping[int, float]]
    evaluations: Mapping[str, int]
    taken: Sequence[int]
    unread: Sequence[str]


def prepare_confirmation(
    ledger: LedgerReader,
    found: SearchResult,
    overrides: Sequence[str],
    executor: str,
    address: str | None,
    trust: bool = False,
    allow_changed_code: bool = False,
    function: Callable[..., Any] | None = None,
) -> PreparedRun:
    """Prepare the confirmation of what the run of `ledger` found. Its trials need no YAML file.

    `overrides` choose `configurations` (default: the best two) and `seeds` (default: SEEDS), and change the launch settings. `trust`,
    `allow_changed_code` and `function` as in `prepare_resume`. Raises ConfigError with every mistake, and ValueError if the run cannot be
    confirmed.
    """
    about = ledger.run("sweep.name", "sweep.metric.name", "sweep.metric.mode", "task_class", "launch")
    _check_confirmable(about, found)
    tasks = RecordedTasks(about, ledger.path, trust, function)
    if not allow_changed_code:
        tasks.check_code(found.place, "A confirmation would measure other code. Restore the code,")
    launch, names = _composed(about, found, overrides, executor, address)
    rows = ledger.trials()
    first = {name: next(row for row in rows if row.configuration == name) for name in names}
    compared = Metric(found.measure.partition(" ")[2], about["sweep"]["metric"]["mode"])
    held_out = _holds_out(tasks.task_class) and compared.name.startswith("val/")
    selected_by = f"{compared.mode} {compared.name}" if held_out else ""
    seeds = range(max(found.taken) + 1, max(found.taken) + 1 + launch.most_seeds)
    trials = _fresh_trials(tasks, first, seeds, selected_by)
    metric = Metric(f"test/{compared.name.removeprefix('val/')}", compared.mode) if held_out else compared
    confirms = _confirms(about, found, names, compared) | {
        "holdout": trials[0].hyperparameters["holdout"] if held_out else 0.0,
        "test_seen": held_out and not first[names[0]].task.get("holdout"),
    }
    record = {
        "sweep": _described(about["sweep"], metric, launch),
        "scale": about.get("scale", ""),
        "overrides": list(overrides),
        "task_class": about["task_class"],
        "launch": asdict(launch),
        "executor": executor,
        "population": {},
        "confirms": confirms,
        **code_entries(about["task_class"].rpartition(".")[0], about.get("code_folder") or "", function, about.get("measurements") or 0),
    }
    return PreparedRun(
        name=record["sweep"]["name"],
        launch=launch,
        metric=metric,
        executor=executor,
        address=address,
        trials=trials,
        source=None,
        population={},
        about=record,
        notes=partial(_notes, rows, found, confirms, seeds, tasks.task_class),
    )


def _fresh_trials(tasks: RecordedTasks, first: Mapping[str, TrialRow], seeds: range, selected_by: str) -> list[Trial]:
    """The trials of the configurations, by a row of each, on fresh seeds. They hold data out if a metric selects their epoch."""
    trials: list[Trial] = []
    for seed in seeds:
        for name, row in first.items():
            task = tasks.build({**row.task, "seed": seed, **(_held_out(row, selected_by) if selected_by else {})})
            trials.append(Trial(trial_identity(task), len(trials), name, row.swept, task))
    return trials


def _check_confirmable(about: Mapping[str, Any], found: SearchResult) -> None:
    """Raise ValueError if the run cannot be confirmed."""
    if about.get("confirms"):
        raise ValueError(f"{found.place}: is a confirmation already. Name the run that it confirms, {about['confirms'].get('folder')}.")
    if about.get("population"):
        raise ValueError(
            f"{found.place}: population based training changed hyperparameters while its trials trained, so no configuration can be trained "
            "again. Confirm a run with search.algorithm=random or tpe."
        )
    if not any(found.values.values()):
        raise ValueError(
            f"{found.place}: no trial has a value of {found.measure} yet, so there is nothing to confirm. Finish the run first."
        )


def _confirms(about: Mapping[str, Any], found: SearchResult, names: Sequence[str], compared: Metric) -> dict[str, Any]:
    """The findings of the run that the report of the confirmation compares with."""
    return {
        "folder": found.place,
        "created": about.get("created", ""),
        "metric": asdict(compared),
        "measure": found.measure,
        "configurations": {name: {str(seed): value for seed, value in found.values[name].items()} for name in names},
        "evaluations": {name: found.evaluations[name] for name in names},
        "winner": next(iter(found.values)),
        "compared": sum(1 for values in found.values.values() if values),
    }


def _described(sweep: Mapping[str, Any], metric: Metric, launch: Launch) -> dict[str, Any]:
    """The record of the confirmation as a sweep, from that of the run's sweep."""
    return {
        **sweep,
        "name": f"{sweep['name']}{SUFFIX}",
        "title": f"{sweep.get('title') or sweep['name']}: confirmation on fresh seeds",
        "metric": asdict(metric),
        "seeds": launch.most_seeds,
        "reference": None,
    }


def _composed(
    about: Mapping[str, Any], found: SearchResult, overrides: Sequence[str], executor: str, address: str | None
) -> tuple[Launch, list[str]]:
    """The launch settings, and the names of the configurations. Raises ConfigError with every mistake."""
    problems, accepted = [], []
    for text in overrides:
        key = text.lstrip("+~").partition("=")[0].partition(".")[0]
        if key in REFUSED:
            problems.append(f"command line: {text}: cannot be set here: {REFUSED[key]}.")
        else:
            accepted.append(text)
    recorded = Launch(**ADDED_LATER | about["launch"])
    values = asdict(recorded) | {"seeds": SEEDS, "until": "all"}
    values["early_stopping"]["scheduler"], values["search"]["algorithm"] = "none", "random"
    draft = SweepDraft(values, {"metric": {"name": ""}}, {}, {name: {} for name in found.values}, {})
    overridden = apply_overrides(draft, accepted, [], problems)
    names = (
        list(draft.configurations) if "configurations" in overridden else [name for name in draft.configurations if found.values[name]][:2]
    )
    problems += [
        f"command line: configurations: {name} has no value of {found.measure}, so there is nothing to confirm."
        for name in names
        if not found.values[name]
    ]
    launch = construct(Launch, draft.launch, lambda key: COMMAND_LINE, "", problems) or recorded
    check_inline(launch, executor == "inline", problems)
    check_address(executor, address, "Remove --address or --executor inline", problems)
    impossible: list[str] = []
    check_gpus(launch, impossible)
    problems += impossible
    if address is None and not impossible:
        allocate(launch, local_capacity(), max(len(names) * launch.most_seeds, 1), executor == "inline", problems)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return launch, names


def _holds_out(task_class: type[Task]) -> bool:
    return issubclass(task_class, FitTask) and task_class.holds_out


def _held_out(row: TrialRow, selected_by: str) -> dict[str, Any]:
    """The hyperparameters that hold data out. A run that did so itself keeps its part."""
    return {"holdout": row.task.get("holdout") or HOLDOUT, "selected_by": selected_by}


def _notes(rows: Sequence[TrialRow], found: SearchResult, confirms: Mapping[str, Any], seeds: range, task_class: type[Task]) -> list[str]:
    """The lines of the plan about a confirmation."""
    left = sum(row.status in ("planned", "running") for row in rows)
    notes = [f"confirms {', '.join(confirms['configurations'])} of {found.place}, on the fresh seeds {seeds[0]} to {seeds[-1]}"]
    notes += [f"an earlier confirmation cannot be read, so its seeds may be used again: {reason}" for reason in found.unread]
    if left:
        notes.append(f"that run is not finished: {left} of its {len(rows)} trials have no result yet")
    if not confirms["holdout"]:
        notes.append(
            f"{task_class.__name__} holds no data out for validation, so only the seeds are fresh: the metric is that of the run, "
            f"{confirms['metric']['name']}"
        )
        return notes
    notes.append(
        f"validation: {confirms['holdout']:.0%} of the training examples, which choose the best epoch; the former validation split is the test "
        "split, used once in each trial"
    )
    return notes
