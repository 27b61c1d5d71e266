"""Search: the values of a sweep's sampled axes, drawn while it runs by what the trials before have shown."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from ddl.ledger import TrialRow
from ddl.schema import Sweep
from ddl.sweeps import space
from ddl.sweeps.space import Trial
from ddl.tasks.task import Task

REPEATS = 100
"""Draws in a row that were all there before, until the space is taken to be used up."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class _SampledPoint:
    """A point of the space under way: Optuna's trial, and the value of each seed's trial, None until it ends."""

    asked: optuna.Trial
    values: dict[str, float | None]
    waiting: set[str] = field(default_factory=set)


class TpeSearch:
    """The tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011), by Optuna.

    Each draw is one configuration, trained with every seed of the sweep; its value is the mean over its seeds of the best that
    each measured. A trial that diverged or failed has none, and a draw without any moves nothing. A point that was drawn
    before is not trained again. Draws follow from what ended when, so two runs of a sweep on several cores draw differently;
    what was drawn is in the ledger.
    """

    def __init__(self, settings: Mapping[str, Any], task_class: type[Task]):
        """`settings` as `record` gives them."""
        self._settings, self._class = dict(settings), task_class
        self._axes = {key: _distribution(axis) for key, axis in settings["axes"].items()}
        sampler = optuna.samplers.TPESampler(seed=_seed(settings), n_startup_trials=max(5, settings["samples"] // 5))
        direction = StudyDirection.MAXIMIZE if settings["mode"] == "max" else StudyDirection.MINIMIZE
        self._study = optuna.create_study(direction=direction, sampler=sampler)
        self._draws: list[_SampledPoint] = []
        self._drawn: set[str] = set()
        self._exhausted = False

    @classmethod
    def of(cls, sweep: Sweep, problems: list[str]) -> Self | None:
        """The search that a sweep asks for; what is wrong with it goes into `problems`."""
        before = len(problems)
        where = sweep.where.get("search.algorithm", sweep.where["space"])
        if not any(isinstance(axis, dict) for axis in sweep.space.values()):
            problems.append(
                f"{where}: search.algorithm: tpe draws, but no axis is a distribution. Give one, as in {{loguniform: [1.0e-4, 0.1]}}."
            )
        if sweep.configurations:
            problems.append(f"{where}: search.algorithm: tpe draws from `space` alone. Remove `configurations`, or take random.")
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
            "seeds": sweep.launch.seeds,
        }
        return cls(settings, sweep.task_class)

    @classmethod
    def resumed(
        cls, settings: Mapping[str, Any], task_class: type[Task], rows: Sequence[TrialRow], best: Mapping[str, float | None]
    ) -> Self:
        """Go on where a run stopped: `rows` are all trials drawn so far, `best` the best value of each that ended well."""
        search = cls(settings, task_class)
        by_draw: dict[str, list[TrialRow]] = {}
        for row in rows:
            by_draw.setdefault(row.configuration, []).append(row)
        for drawn in by_draw.values():
            values = {key: drawn[0].swept[f"task.{key}"] for key in search._axes}
            search._study.enqueue_trial({key: _index(settings["axes"][key], value) for key, value in values.items()})
            search._begin(search._study.ask(search._axes), [row.trial_id for row in drawn])
            for row in drawn:
                if row.status in ("finished", "stopped", "diverged"):
                    search.ended(row.trial_id, best.get(row.trial_id))
        return search

    @property
    def keys(self) -> list[str]:
        """The columns of what it draws."""
        return [f"task.{key}" for key in self._axes]

    @property
    def left(self) -> int:
        """How many trials are still to be drawn."""
        return 0 if self._exhausted else (self._settings["samples"] - len(self._draws)) * self._settings["seeds"]

    def record(self) -> dict[str, Any]:
        """JSON-serialisable, all that a resume needs beside the ledger's rows."""
        return self._settings

    def trials(self, position: int) -> Iterator[Trial]:
        """Draw until there are as many configurations as the sweep asks for; the first trial stands at `position`.

        Each is drawn when it is asked for, by what has ended until then (`ended`).
        """
        repeats = 0
        while len(self._draws) < self._settings["samples"] and repeats < REPEATS:
            asked = self._study.ask(self._axes)
            drawn = {key: _value(self._settings["axes"][key], asked.params[key]) for key in self._axes}
            seeds = range(self._settings["first_seed"], self._settings["first_seed"] + self._settings["seeds"])
            number, base = len(self._draws) + 1, self._settings["base"]
            found = [space.sampled_trial(self._class, base, drawn, number, seed, position + place) for place, seed in enumerate(seeds)]
            if found[0].trial_id in self._drawn:
                self._study.tell(asked, state=TrialState.FAIL)
                repeats += 1
                continue
            repeats = 0
            self._begin(asked, [trial.trial_id for trial in found])
            position += len(found)
            yield from found
        self._exhausted = True

    def examples(self) -> list[Trial]:
        """Trials at both ends of all axes at once, to be timed before anything is drawn."""
        ends = [space.axis_ends(axis) for axis in self._settings["axes"].values()]
        points = [dict(zip(self._axes, [end[place] for end in ends], strict=True)) for place in (0, -1)]
        seed = self._settings["first_seed"]
        return [space.sampled_trial(self._class, self._settings["base"], point, place, seed, 0) for place, point in enumerate(points)]

    def _begin(self, asked: optuna.Trial, trial_ids: Sequence[str]) -> None:
        self._drawn.update(trial_ids)
        self._draws.append(_SampledPoint(asked, dict.fromkeys(trial_ids), set(trial_ids)))

    def ended(self, trial_id: str, value: float | None) -> None:
        """A trial has ended with `value` as its best measurement; None where it diverged or failed."""
        draw = next(draw for draw in self._draws if trial_id in draw.values)
        draw.values[trial_id] = value
        draw.waiting.discard(trial_id)
        if draw.waiting:
            return
        measured = [value for value in draw.values.values() if value is not None]
        if measured:
            self._study.tell(draw.asked, sum(measured) / len(measured))
        else:
            self._study.tell(draw.asked, state=TrialState.FAIL)


def _distribution(axis: Any) -> BaseDistribution:
    """Optuna's word for an axis. Of a list of values, or a choice, the place in it is drawn, since a value may be a list."""
    if isinstance(axis, list):
        return CategoricalDistribution(range(len(axis)))
    ((kind, bounds),) = axis.items()
    match kind:
        case "choice":
            return CategoricalDistribution(range(len(bounds)))
        case "randint":
            return IntDistribution(bounds[0], bounds[1] - 1)
        case _:
            return FloatDistribution(bounds[0], bounds[1], log=kind == "loguniform")


def _options(axis: Any) -> list[Any] | None:
    return axis if isinstance(axis, list) else axis.get("choice")


def _value(axis: Any, drawn: Any) -> Any:
    options = _options(axis)
    return drawn if options is None else options[drawn]


def _index(axis: Any, value: Any) -> Any:
    options = _options(axis)
    return value if options is None else options.index(value)


def _seed(settings: Mapping[str, Any]) -> int:
    content = f"{settings['name']}/{settings['first_seed']}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=4).digest())
