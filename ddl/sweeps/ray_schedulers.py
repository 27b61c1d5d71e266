"""Ray Tune's schedulers, adapted to compare trials at the same fraction of their steps and to ignore diverged trials."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, PopulationBasedTraining, TrialScheduler

from ddl.schema import Launch, Metric
from ddl.sweeps.worker import larger_fraction

PERCENT = "percent"
"""Result key: percent of the trial's steps. The schedulers' unit of time, so that trials of different lengths can be compared."""

CHANGED = "changed"
"""Key in a Tune trial's configuration for the hyperparameters that population based training changes."""


def make_scheduler(
    launch: Launch, metric: Metric, population: Mapping[str, Any], history: Mapping[str, Sequence[tuple[float, float]]]
) -> TrialScheduler:
    """The scheduler of a sweep.

    `population` are the axes that population based training changes, empty without it. `history` has the measurements of trials
    that ended before a resume, in order, as (percent of the trial's steps, metric).
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
    for trial_id, measured in history.items():
        trial: Any = _EndedTrial(trial_id)
        scheduler.on_trial_add(None, trial)
        for percent, value in measured:
            scheduler.on_trial_result(_EmptyController(), trial, {PERCENT: percent, metric.name: value})
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
                config[CHANGED][key] = type(low)(min(max(config[CHANGED][key], low), high))
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


@dataclass(frozen=True)
class _EndedTrial:
    """The part of an ended Tune trial that schedulers read."""

    trial_id: str


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


def _diverged(result: Mapping[str, Any]) -> bool:
    reports = result.get("reports", ())  # a trial that was stopped before it started has none
    return any(report.status == "diverged" for report in reports)


class _Asha(_MoreMemory, AsyncHyperBandScheduler):
    """Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning")."""

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, trial, result)
        if _diverged(result):
            for bracket in self._brackets:
                for _, recorded in bracket._rungs:
                    recorded.pop(trial.trial_id, None)


class _Median(_MoreMemory, MedianStoppingRule):
    """Stops trials below the median of running averages (Golovin et al. 2017, "Google Vizier")."""

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        # Ray's method would record the last result again, which has no metric here.
        if _diverged(result):
            self._results.pop(trial, None)
