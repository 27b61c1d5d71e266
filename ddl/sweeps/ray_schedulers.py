"""Ray Tune's schedulers, adapted to compare trials at the same fraction of their steps and to ignore diverged trials."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, PopulationBasedTraining, TrialScheduler

from ddl.schema import Launch, Metric
from ddl.sweeps import ray_stops
from ddl.sweeps.assignment import larger_fraction

PERCENT = "percent"
"""Result key: percent of the trial's steps. The schedulers' unit of time, so that trials of different lengths can be compared."""

CHANGED = "changed"
"""Key in a Tune trial's configuration for the hyperparameters that population based training changes."""


def make_scheduler(
    launch: Launch, metric: Metric, population: Mapping[str, Any], history: Sequence[tuple[str, float, float]]
) -> TrialScheduler:
    """The scheduler of a sweep.

    `population` are the axes that population based training changes, empty without it. `history` has the measurements of trials
    before a resume, in order, as (trial id, percent of its steps, metric).
    """
    if population:
        return _population_scheduler(launch, metric, population)
    early_stopping = launch.early_stopping
    grace = 100 * early_stopping.grace
    match early_stopping.scheduler:
        case "none":
            return InOrder()
        case "asha":
            # Above 100, because trials end by themselves: at max_t the scheduler would stop them.
            scheduler: _Asha | _Median = _Asha(
                time_attr=PERCENT, metric=metric.name, mode=metric.mode, max_t=101, grace_period=grace,
                reduction_factor=early_stopping.reduction_factor,
            )  # fmt: skip
        case "median":
            # Infinite, because a trial paused for lack of others to compare with would lose its steps since the last checkpoint.
            scheduler = _Median(time_attr=PERCENT, metric=metric.name, mode=metric.mode, grace_period=grace, min_time_slice=math.inf)
    for trial_id, percent, value in history:
        scheduler.compare(trial_id, percent, value)
    return scheduler


def _population_scheduler(launch: Launch, metric: Metric, axes: Mapping[str, Any]) -> TrialScheduler:
    """Population based training (Jaderberg et al. 2017, "Population Based Training of Neural Networks").

    Trials without a finite metric are never copied.
    """

    def clip_to_bounds(config: dict[str, Any]) -> dict[str, Any]:
        # Ray multiplies a value without regard to its bounds.
        for key, axis in axes.items():
            ((kind, bounds),) = axis.items()
            if kind != "choice":
                low, high = bounds[0], bounds[1] - 1 if kind == "randint" else bounds[1]
                config[CHANGED][key] = (int if kind == "randint" else float)(min(max(config[CHANGED][key], low), high))
        return config

    return _Population(
        time_attr=PERCENT,
        metric=metric.name,
        mode=metric.mode,
        perturbation_interval=100 * launch.search.every,
        hyperparam_mutations={CHANGED: {key: _domain(axis) for key, axis in axes.items()}},
        custom_explore_fn=clip_to_bounds,
        require_attrs=False,
        log_config=False,
    )


def _domain(axis: Mapping[str, Any]) -> Any:
    ((kind, bounds),) = axis.items()
    return list(bounds) if kind == "choice" else getattr(tune, kind)(*bounds)


class _MoreMemory(TrialScheduler):
    """Gives a trial that ran out of memory a larger fraction of a GPU before it starts again. A population's trials keep their size."""

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        super().on_trial_error(tune_controller, trial)
        reports, pack = (trial.last_result or {}).get("reports"), trial.config.get("pack")
        if pack is not None and reports and reports[-1].kind == "out_of_memory":
            gpus = larger_fraction(pack.first.gpus)
            trial.config["pack"] = replace(pack, members=tuple(replace(member, gpus=gpus) for member in pack.members))
            trial.update_resources({"cpu": pack.first.cpus, "gpu": gpus})


class InOrder(_MoreMemory, FIFOScheduler):
    """Runs all trials to their ends, in order."""


class _Population(PopulationBasedTraining):
    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        # At its end a trial has nothing left to change, and a trial that continued from there would have no steps left.
        return TrialScheduler.CONTINUE if result[PERCENT] >= 100 else super().on_trial_result(tune_controller, trial, result)

    def _get_new_config(self, trial: TuneTrial, trial_to_clone: TuneTrial) -> tuple[dict[str, Any], dict[str, Any]]:
        # Ray's method also copies the other trial's id.
        new, operations = super()._get_new_config(trial, trial_to_clone)
        return {**trial.config, CHANGED: new[CHANGED]}, operations


class _EmptyController:
    """A Tune controller without live trials."""

    def get_live_trials(self) -> list[TuneTrial]:
        return []


@dataclass(frozen=True)
class _Member:
    """A trial of a pack, with what schedulers read of Tune's trials."""

    trial_id: str


class _EachMember(_MoreMemory):
    """Base of schedulers that compare the trials of all packs: Tune's own compare Tune's trials, which are packs.

    A class derives from this one and from one of Tune's schedulers.
    """

    _metric: str
    _mode: str

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._added: set[_Member] = set()
        self._stopped: set[str] = set()
        self._compared_at: dict[str, float] = {}
        self._published: dict[str, set[str]] = {}  # by the id of Tune's trial, of packs of several

    def compare(self, trial_id: str, percent: float, value: float) -> None:
        """Compare a trial with the others at `percent` of its steps, once: a trial that continues reports its measurements again.

        A trial that is stopped stays so.
        """
        if trial_id in self._stopped or percent <= self._compared_at.get(trial_id, -1.0):
            return
        self._compared_at[trial_id] = percent
        member: Any = _Member(trial_id)
        controller: Any = _EmptyController()
        if member not in self._added:
            self._added.add(member)
            super().on_trial_add(controller, member)
        if super().on_trial_result(controller, member, {PERCENT: percent, self._metric: value}) == TrialScheduler.STOP:
            self._stopped.add(trial_id)

    def remove(self, trial_id: str) -> None:
        """Remove all measurements of a trial."""
        raise NotImplementedError

    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Do nothing: `compare` adds the members."""

    def on_trial_remove(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Do nothing."""

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        """Do nothing more: the last report has been compared."""
        if self._published.pop(trial.trial_id, None):
            ray_stops.forget(trial.trial_id)

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Stop a pack of one, or publish which trials of a pack of several are stopped."""
        for report in result["reports"]:
            if report.status == "diverged":
                self.remove(report.trial_id)
        known = [report for report in result["reports"] if report.total_steps]  # the driver ends the sweep otherwise
        measured = [report for report in known if math.isfinite(report.metrics.get(self._metric, math.nan))]
        # The best first: of trials that measure at the same moment, those behind are then compared with all others.
        for report in sorted(measured, key=lambda report: report.metrics[self._metric], reverse=self._mode == "max"):
            percent = min(100 * report.step / report.total_steps, 100.0)  # a function may take more steps than it was said to
            self.compare(report.trial_id, percent, report.metrics[self._metric])
        members = [member.trial_id for member in trial.config["pack"].members]
        stopped = self._stopped.intersection(members)
        if stopped and len(members) == 1:
            return TrialScheduler.STOP
        if stopped != self._published.get(trial.trial_id, set()):
            self._published[trial.trial_id] = stopped
            ray_stops.stop_members(trial.trial_id, stopped)
        return TrialScheduler.CONTINUE


class _Asha(_EachMember, AsyncHyperBandScheduler):
    """Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning")."""

    def remove(self, trial_id: str) -> None:
        for bracket in self._brackets:
            for _, recorded in bracket._rungs:
                recorded.pop(trial_id, None)


class _Median(_EachMember, MedianStoppingRule):
    """Stops trials below the median of running averages (Golovin et al. 2017, "Google Vizier")."""

    def remove(self, trial_id: str) -> None:
        self._results.pop(_Member(trial_id), None)
