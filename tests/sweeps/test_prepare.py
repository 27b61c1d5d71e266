"""A run as it is prepared from a sweep: its published values, and the notes that the plan shows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ddl.sweeps import prepare
from ddl.sweeps.prepare import PreparedRun, RunOptions

REFERENCE = "reference: {{source: a, metric: {metric}, tolerance: 0.1, values: {{{values}}}}}\n"


@pytest.fixture
def prepared(ask, tmp_path: Path) -> Callable[..., tuple[PreparedRun, list[str]]]:
    """Prepares a run of SWEEP and `more` lines, and returns it with the problems."""

    def prepared(more: str, *overrides: str) -> tuple[PreparedRun, list[str]]:
        ask(more)
        problems: list[str] = []
        run = prepare.prepare_run(str(tmp_path / "small.yaml"), RunOptions(overrides, "smoke", "inline", None), problems)
        assert run is not None, problems
        return run, [problem.replace(f"{tmp_path}/", "") for problem in problems]

    return prepared


@pytest.mark.parametrize(
    ("more", "override", "note"),
    [
        ("", (), "seeds: 3 (default)"),
        ("seeds: 2\n", (), "seeds: 2"),
        ("", ("seeds=3",), "seeds: 3"),
        ("seeds: 1\n", (), "seeds: 1; intervals need at least 2, as in seeds=3"),
    ],
)
def test_the_plan_says_how_many_seeds_and_why(prepared, more, override, note) -> None:
    assert prepared(more, *override)[0].notes == [note]


@pytest.mark.parametrize("values", ["0.1: 0.5, 1e-3: 0.6", "lr=0.1: 0.5, lr=0.001: 0.6"])
def test_published_values_are_found_by_the_value_of_an_axis_or_by_the_configurations_name(prepared, values) -> None:
    run, problems = prepared("space: {task.lr: [0.1, 1e-3]}\n" + REFERENCE.format(metric="best val/accuracy", values=values))
    assert problems == []
    assert run.about["sweep"]["reference"]["values"] == {"lr=0.1": 0.5, "lr=0.001": 0.6}
    assert {trial.configuration for trial in run.trials} == {"lr=0.1", "lr=0.001"}


def test_a_best_value_that_no_report_has_is_refused(prepared) -> None:
    _, problems = prepared(REFERENCE.format(metric="best val/loss", values="default: 1"))
    assert problems == [
        "small.yaml:6: reference.metric: best val/loss: only the sweep's metric has a best value. Write best val/accuracy or last val/loss."
    ]
    assert prepared(REFERENCE.format(metric="last val/loss", values="default: 1"))[1] == []


def test_published_values_of_another_metric_are_not_compared(prepared) -> None:
    more = REFERENCE.format(metric="best val/accuracy", values="default: 1")
    run, problems = prepared(more, "metric=val/loss", "metric.mode=min")
    assert problems == []
    assert run.about["sweep"]["reference"] is None
    assert "published values: not compared, because they are of val/accuracy and the metric is val/loss" in run.notes
    assert prepared(more, "metric.mode=min")[0].about["sweep"]["reference"] is not None
