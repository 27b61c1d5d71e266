"""Ray Tune's schedulers, made to judge by fractions of a trial and never by one that diverged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, PopulationBasedTraining, TrialScheduler

from ddl.schema import Launch, Metric

PERCENT = "percent"
"""Of a trial's steps done: what a scheduler takes for time, so that trials of different lengths can be compared."""

CHANGED = "changed"
"""Where a trial's configuration for Ray holds what population based training changes."""


def make_scheduler(
    launch: Launch, metric: Metric, population: Mapping[str, Any], history: Mapping[str, Sequence[tuple[float, float]]]
) -> TrialScheduler | None:
    """The scheduler a sweep asks for; None where every trial runs to its end as it began.

    `population`: the axes that population based training changes; empty without it. `history`: what each trial that ended
    in an earlier part of the run measured, as (percent of its steps, metric) in order.
    """
    if population:
        return _population(launch, metric, population)
    early_stopping = launch.early_stopping
    grace = 100 * early_stopping.grace
    match early_stopping.scheduler:
        case "none":
            return None
        case "asha":
            # Trials end by themselves: at max_t they would be called stopped.
            scheduler: TrialScheduler = _Asha(
                time_attr=PERCENT, metric=metric.name, mode=metric.mode, max_t=101, grace_period=grace,
                reduction_factor=early_stopping.reduction_factor,
            )  # fmt: skip
        case "median":
            # A trial that is paused for want of others to compare it with would lose what it has done since its checkpoint.
            scheduler = _Median(time_attr=PERCENT, metric=metric.name, mode=metric.mode, grace_period=grace, min_time_slice=math.inf)
    for trial_id, measured in history.items():
        trial: Any = _EndedTrial(trial_id)
        scheduler.on_trial_add(None, trial)
        for percent, value in measured:
            scheduler.on_trial_result(_EmptyController(), trial, {PERCENT: percent, metric.name: value})
    return scheduler


def _population(launch: Launch, metric: Metric, axes: Mapping[str, Any]) -> TrialScheduler:
    """Population based training (Jaderberg et al. 2017, "Population Based Training of Neural Networks"), never from a trial
    that has no number to show."""

    def within(config: dict[str, Any]) -> dict[str, Any]:
        """Ray multiplies a value without a look at its bounds."""
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
        custom_explore_fn=within,
        require_attrs=False,
        log_config=False,
    )


def _domain(axis: Mapping[str, Any]) -> Any:
    ((kind, bounds),) = axis.items()
    return list(bounds) if kind == "choice" else getattr(tune, kind)(*bounds)


@dataclass(frozen=True)
class _EndedTrial:
    """An ended trial, as far as schedulers look at one."""

    trial_id: str


class _Population(PopulationBasedTraining):
    def _get_new_config(self, trial: TuneTrial, trial_to_clone: TuneTrial) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ray's own would give the trial all of the other's configuration, its name included."""
        new, operations = super()._get_new_config(trial, trial_to_clone)
        return {**trial.config, CHANGED: new[CHANGED]}, operations


class _EmptyController:
    """A controller without live trials."""

    def get_live_trials(self) -> list[TuneTrial]:
        return []


def _diverged(result: Mapping[str, Any]) -> bool:
    report = result.get("report")  # there is none of a trial that was stopped before it began
    return report is not None and report.status == "diverged"


class _Asha(AsyncHyperBandScheduler):
    """Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning")."""

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, trial, result)
        if _diverged(result):
            for bracket in self._brackets:
                for _, recorded in bracket._rungs:
                    recorded.pop(trial.trial_id, None)


class _Median(MedianStoppingRule):
    """Stops what falls behind the median of running averages (Golovin et al. 2017, "Google Vizier")."""

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        # Ray's own would count the last result once more, and that one has no metric here.
        if _diverged(result):
            self._results.pop(trial, None)
