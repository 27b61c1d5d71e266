"""Search: samples a sweep's configurations while it runs, guided by the results of earlier trials."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from ddl.composed_sweep import Sweep
from ddl.ledger_tables import TrialRow
from ddl.sweeps import space
from ddl.sweeps.axes import axis_ends
from ddl.sweeps.space import Trial
from ddl.sweeps.trial_source import TrialSource
from ddl.tasks.task import Task

REPEATS = 100
"""Number of repeated points in a row after which the space counts as exhausted."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class _SampledPoint:
    """A sampled configuration: Optuna's trial, the best value of each seed's trial, and the ids of trials that have not ended."""

    optuna_trial: optuna.Trial
    values: dict[str, float | None]
    waiting: set[str]


class TpeSearch(TrialSource):
    """The tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011), by Optuna.

    Each sample is one configuration, trained with every seed of the sweep. Its value is the mean over seeds of the best
    measurement; seeds that diverged or failed do not count, and a configuration without a value is ignored. A point is not trained
    twice. Samples depend on the order in which trials end, so two runs of a sweep with several trials at a time sample different
    points; the ledger has the points of each.
    """

    entry = "search"
    may_end_early = False

    def __init__(self, settings: Mapping[str, Any], task_class: type[Task], earlier: int = 0):
        """`settings` as returned by `record`; `earlier` is the number of points that were sampled before an interruption."""
        self._settings, self._task_class = dict(settings), task_class
        self._axes = {key: _distribution(axis) for key, axis in settings["axes"].items()}
        sampler = optuna.samplers.TPESampler(seed=_sampler_seed(settings, earlier), n_startup_trials=max(5, settings["samples"] // 5))
        direction = StudyDirection.MAXIMIZE if settings["mode"] == "max" else StudyDirection.MINIMIZE
        self._study = optuna.create_study(direction=direction, sampler=sampler)
        self._points: list[_SampledPoint] = []
        self._trial_ids: set[str] = set()
        self._untaken: dict[str, Trial] = {}  # of the points so far, in order
        self._exhausted = False

    @classmethod
    def of(cls, sweep: Sweep, problems: list[str]) -> Self | None:
        """The search of a sweep. If it has mistakes, adds them to `problems` and returns None."""
        before = len(problems)
        where = sweep.where.get("search.algorithm", sweep.where["space"])
        if not any(isinstance(axis, dict) for axis in sweep.space.values()):
            problems.append(
                f"{where}: search.algorithm: tpe samples values, but no axis is a distribution. Add one, e.g. {{loguniform: [1.0e-4, 0.1]}}."
            )
        if sweep.configurations:
            problems.append(
                f"{where}: search.algorithm: tpe samples from `space` only. Remove `configurations`, or set search.algorithm to random."
            )
        space.check_ends(sweep, problems)
        if len(problems) > before:
            return None
        settings = {
            "name": sweep.name,
            "mode": sweep.file.metric.mode,
            "axes": dict(sweep.space),
            "base": {**sweep.base, **sweep.forced},
            "samples": sweep.file.samples,
            "first_seed": sweep.launch.first_seed,
            "seeds": sweep.launch.most_seeds,
        }
        return cls(settings, sweep.task_class)

    @classmethod
    def resumed(
        cls, settings: Mapping[str, Any], task_class: type[Task], rows: Sequence[TrialRow], best: Mapping[str, float | None]
    ) -> Self:
        """Continue an interrupted search. `rows` are all trials sampled so far, `best` is the best value of each that ended well."""
        by_configuration: dict[str, list[TrialRow]] = {}
        for row in rows:
            by_configuration.setdefault(row.configuration, []).append(row)
        search = cls(settings, task_class, len(by_configuration))
        for number, (configuration, seeds) in enumerate(by_configuration.items(), 1):
            values = {key: seeds[0].swept[f"task.{key}"] for key in search._axes}
            search._study.enqueue_trial({key: _to_optuna(settings["axes"][key], value) for key, value in values.items()})
            recorded = {row.seed: row.trial_id for row in seeds}
            point = [replace(trial, configuration=configuration) for trial in search._trials(values, number)]
            missing = [trial for trial in point if trial.task.seed not in recorded]
            search._begin(search._study.ask(search._axes), [*recorded.values(), *(trial.trial_id for trial in missing)], missing)
            for row in seeds:
                if row.status in ("finished", "stopped", "diverged"):
                    search.ended(row.trial_id, best.get(row.trial_id))
        return search

    @property
    def left(self) -> int:
        to_sample = 0 if self._exhausted else (self._settings["samples"] - len(self._points)) * self._settings["seeds"]
        return to_sample + len(self._untaken)

    @property
    def described(self) -> str:
        shown = " The table shows the ends of the space, for timing only." if self._task_class.timed else ""
        return f"{self.left} trials will be sampled during the sweep.{shown}"

    def record(self) -> dict[str, Any]:
        return self._settings

    def groups(self) -> Iterator[list[Trial]]:
        """The trials that an interruption has left of the points so far, then those of the remaining points; one trial a group."""
        for trial in list(self._untaken.values()):
            yield [trial]
        axes, repeats = self._settings["axes"], 0
        while len(self._points) < self._settings["samples"] and repeats < REPEATS:
            optuna_trial = self._study.ask(self._axes)
            values = {key: _from_optuna(axes[key], optuna_trial.params[key]) for key in self._axes}
            trials = self._trials(values, len(self._points) + 1)
            if trials[0].trial_id in self._trial_ids:
                self._study.tell(optuna_trial, state=TrialState.FAIL)
                repeats += 1
                continue
            repeats = 0
            self._begin(optuna_trial, [trial.trial_id for trial in trials], trials)
            for trial in trials:
                yield [trial]
        self._exhausted = True

    def examples(self) -> list[Trial]:
        """Two trials, with the lowest and the highest values of all axes, for timing before anything is sampled."""
        ends = [axis_ends(axis) for axis in self._settings["axes"].values()]
        points = [dict(zip(self._axes, [end[index] for end in ends], strict=True)) for index in (0, -1)]
        base, seed = self._settings["base"], self._settings["first_seed"]
        return [space.sampled_trial(self._task_class, base, point, index, seed) for index, point in enumerate(points)]

    def take(self, trial: Trial) -> bool:
        self._untaken.pop(trial.trial_id)
        return True

    def news(self) -> list[str]:
        return []

    def _trials(self, values: Mapping[str, Any], number: int) -> list[Trial]:
        """The trials of all seeds of the point of this number."""
        first, base = self._settings["first_seed"], self._settings["base"]
        return [space.sampled_trial(self._task_class, base, values, number, seed) for seed in range(first, first + self._settings["seeds"])]

    def _begin(self, optuna_trial: optuna.Trial, trial_ids: Sequence[str], untaken: Sequence[Trial]) -> None:
        self._trial_ids.update(trial_ids)
        self._untaken |= {trial.trial_id: trial for trial in untaken}
        self._points.append(_SampledPoint(optuna_trial, dict.fromkeys(trial_ids), set(trial_ids)))

    def ended(self, trial_id: str, value: float | None) -> None:
        point = next(point for point in self._points if trial_id in point.values)
        point.values[trial_id] = value
        point.waiting.discard(trial_id)
        if point.waiting:
            return
        measured = [value for value in point.values.values() if value is not None]
        if measured:
            self._study.tell(point.optuna_trial, sum(measured) / len(measured))
        else:
            self._study.tell(point.optuna_trial, state=TrialState.FAIL)


def _distribution(axis: Any) -> BaseDistribution:
    """Optuna's distribution for an axis. Lists and choices are sampled by index, since a value may be a list."""
    options = _options(axis)
    if options is not None:
        return CategoricalDistribution(range(len(options)))
    ((kind, (low, high)),) = axis.items()
    return IntDistribution(low, high - 1) if kind == "randint" else FloatDistribution(low, high, log=kind == "loguniform")


def _options(axis: Any) -> list[Any] | None:
    return axis if isinstance(axis, list) else axis.get("choice")


def _from_optuna(axis: Any, value: Any) -> Any:
    options = _options(axis)
    return value if options is None else options[value]


def _to_optuna(axis: Any, value: Any) -> Any:
    options = _options(axis)
    return value if options is None else options.index(value)


def _sampler_seed(settings: Mapping[str, Any], earlier: int) -> int:
    # With the same seed, a resume would sample the earlier points again.
    content = f"{settings['name']}/{settings['first_seed']}{f'/{earlier}' if earlier else ''}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=4).digest())
