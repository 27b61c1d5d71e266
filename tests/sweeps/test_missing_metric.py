"""A metric that no trial reports is found as soon as that is certain, and not before."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ddl.config import ConfigError
from ddl.sweeps import prepare
from ddl.sweeps.missing_metric import MissingMetric
from ddl.sweeps.prepare import PreparedRun, RunOptions
from ddl.tasks.classification import Classification
from ddl.trial_report import TrialReport

EVALUATION = {"train/loss": 1.0, "val/loss": 1.0, "val/accuracy": 0.5}


class OwnLoop(Classification):
    def run(self, device, resume=None):
        yield from super().run(device, resume)


@pytest.fixture
def run(ask, tmp_path: Path) -> Callable[..., PreparedRun]:
    def run(metric: str, more: str = "") -> PreparedRun:
        ask(more)
        problems: list[str] = []
        options = RunOptions((f"metric={metric}", "metric.mode=max"), "smoke", "inline", None)
        prepared = prepare.prepare_run(str(tmp_path / "small.yaml"), options, problems)
        assert problems == []
        return prepared

    return run


@dataclass
class Reports:
    """Passes the reports of a run's trials on; a trial is named by its position."""

    run: PreparedRun

    def __post_init__(self) -> None:
        self.metrics = MissingMetric(self.run)

    def measured(self, trial: int, *names: str) -> None:
        self.metrics.take(TrialReport(self.run.trials[trial].trial_id, "measured", metrics=dict.fromkeys(names, 1.0)))

    def ended(self, trial: int, status: str = "finished") -> None:
        self.metrics.take(TrialReport(self.run.trials[trial].trial_id, "ended", status=status, metrics={"time/train_s": 1.0}))


def own_loop(run: PreparedRun) -> PreparedRun:
    """The run with trials whose `run` is a user's."""
    trials = [replace(trial, task=OwnLoop(**trial.hyperparameters)) for trial in run.trials]
    return replace(run, trials=trials)


def test_a_fitted_trial_lacks_what_its_first_evaluation_lacks(run):
    reports = Reports(run("val/acuracy", "space: {task.lr: [0.1, 0.2]}\n"))
    reports.measured(0)
    reports.measured(0, "train/loss")
    with pytest.raises(ConfigError) as error:
        reports.measured(0, *EVALUATION)
    assert error.value.problems == [
        "metric.name: no trial reports val/acuracy. Did you mean val/accuracy? Trials report: train/loss, val/loss, val/accuracy."
    ]
    assert error.value.outcome == "The sweep was stopped."


def test_a_metric_of_the_end_is_waited_for(run):
    reports = Reports(run("time/train_s"))
    reports.measured(0, *EVALUATION)
    reports.ended(0)
    reports.ended(1)


def test_a_trial_with_a_loop_of_its_own_may_report_it_until_it_has_finished(run):
    reports = Reports(own_loop(run("val/bleu")))
    reports.measured(0, "val/loss")
    reports.measured(0, "val/loss")
    for status in ("failed", "diverged", "stopped"):
        reports.ended(1, status)
    with pytest.raises(ConfigError, match=r"no trial reports val/bleu\."):
        reports.ended(0)
    late = Reports(own_loop(run("val/bleu")))
    late.measured(0, "val/loss")
    late.measured(0, "val/bleu")
    late.ended(0)
    late.ended(1)


def test_other_models_may_have_it(run):
    configurations = "configurations:\n  a: {}\n  b: {task.initialisation: zeros}\nseeds: 2\n"
    reports = Reports(run("val/mse", configurations))
    reports.measured(0, *EVALUATION)
    reports.measured(2, *EVALUATION)  # the other seed of the same
    with pytest.raises(ConfigError):
        reports.measured(1, *EVALUATION)
    found = Reports(run("val/mse", configurations))
    found.measured(0, *EVALUATION)
    found.measured(1, "val/mse")
    found.ended(0)


def test_other_models_do_not_have_a_mistyped_one(run):
    reports = Reports(run("val/acc", "configurations:\n  a: {}\n  b: {task.initialisation: zeros}\n"))
    with pytest.raises(ConfigError, match=r"Did you mean val/accuracy\?"):
        reports.measured(0, *EVALUATION)


def test_the_metric_of_the_published_values_too(run):
    reference = "reference: {source: a, metric: last val/acuracy, tolerance: 0.1, values: {default: 1}}\n"
    prepared = run("val/loss", reference.replace("last ", ""))
    assert prepared.about["sweep"]["reference"] is None
    about = prepared.about | {"sweep": prepared.about["sweep"] | {"reference": {"metric": "last val/acuracy"}}}
    reports = Reports(replace(prepared, about=about))
    with pytest.raises(ConfigError, match=r"^reference\.metric: no trial reports val/acuracy\. Did you mean val/accuracy\?"):
        reports.measured(0, *EVALUATION)
    Reports(replace(prepared, about=about, precision="fp32")).measured(0, *EVALUATION)


def test_a_resumed_run_may_have_reported_it_before(run):
    prepared = run("val/acuracy")
    reports = Reports(replace(prepared, measured={prepared.trials[0].trial_id: 0.5}))
    reports.measured(0, *EVALUATION)
    reports.ended(0)
