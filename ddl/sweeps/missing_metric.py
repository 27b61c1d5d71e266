"""Stops a sweep whose metric no trial reports, as soon as that is certain."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ddl.config import ConfigError
from ddl.hints import suggest_name
from ddl.sweeps.prepare import PreparedRun
from ddl.tasks.fit_task import FitTask
from ddl.tasks.task import Task
from ddl.trial_report import TrialReport

EVALUATED = ("train/", "val/")
"""Prefixes of the metrics of which `fit` reports all, or none, at the end of an epoch."""

ALIKE = 0.7
"""Similarity (`difflib`) from which a name is a mistyped one: "val/acc" has it with "val/accuracy", "val/loss" not with "val/mse"."""


class MissingMetric:
    """Compares the metrics that the trials of a run report with those that its report compares.

    A metric is missing once a trial lacks it and reports a similar one, or once a trial of each kind lacks it. Trials are of one kind if
    they differ in numbers only: another model may have other metrics. A finished trial lacks what it has not reported, a trial of `fit`
    what its first evaluation does not report.
    """

    def __init__(self, run: PreparedRun):
        reference = run.about["sweep"].get("reference")
        self._missing = {} if run.measured else {"metric.name": run.metric.name}
        if reference and not run.resumed:  # the trials of a resumed run may have reported it before
            self._missing["reference.metric"] = reference["metric"].removeprefix("best ").removeprefix("last ")
        self._kinds = {trial.trial_id: _kind(trial.swept) for trial in run.trials}
        self._lacking: dict[str, set[tuple[Any, ...]]] = {key: set() for key in self._missing}
        self._fits = {trial.trial_id for trial in run.trials if _uses_fit(type(trial.task))}
        self._reported: dict[str, dict[str, None]] = {}
        self._warned = False

    def take(self, report: TrialReport) -> str:
        """Take a recorded report. Raises ConfigError if a metric is missing.

        Returns a warning, once, if the first measurement of a loop of the user's own lacks the metric: a later one may have it.
        """
        reported = self._reported.setdefault(report.trial_id, {})
        reported |= dict.fromkeys(report.metrics)
        self._missing = {key: name for key, name in self._missing.items() if name not in report.metrics}
        finished = report.kind == "ended" and report.status == "finished"
        evaluated = report.trial_id in self._fits and any(name.startswith("val/") for name in report.metrics)
        for key, name in self._missing.items():
            if finished or (evaluated and name.startswith(EVALUATED)):
                self._lacking[key].add(self._kinds.get(report.trial_id, ()))  # (): sampled
                typo = difflib.get_close_matches(name, reported, 1, ALIKE)
                if typo or self._lacking[key] >= set(self._kinds.values()):
                    raise ConfigError([_problem(key, name, list(reported))], "The sweep was stopped.")
        measured = report.kind == "measured" and report.metrics and report.trial_id not in self._fits
        if not measured or self._warned or "metric.name" not in self._missing:
            return ""
        self._warned = True
        name = self._missing["metric.name"]
        hint = suggest_name(name, report.metrics)
        return f"the first measurement has no {name}.{hint} The sweep stops if a trial ends without it."


def _uses_fit(task_class: type[Task]) -> bool:
    """True for a task that reports all its metrics at its first evaluation; a `run` of the user's own may have rarer ones."""
    return issubclass(task_class, FitTask) and (task_class.run is FitTask.run or task_class.__module__.startswith("ddl.tasks."))


def _kind(swept: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(repr(value) for value in swept.values() if isinstance(value, bool) or not isinstance(value, int | float))


def _problem(key: str, name: str, reported: Sequence[str]) -> str:
    own = [each for each in reported if not each.startswith(("device/", "time/", "latency/"))]
    return f"{key}: no trial reports {name}.{suggest_name(name, own or reported)} Trials report: {', '.join(own or reported) or 'nothing'}."
