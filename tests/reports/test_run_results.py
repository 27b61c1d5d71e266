"""A run's results as data, and as a notebook shows them."""

import html
import re
from dataclasses import fields

import pytest

from ddl.run_results import Run
from tests.docs import pages


def test_curves_have_a_row_per_measured_value(make_run):
    run = Run(make_run({"none": 0.8, "light": 0.7}, epochs=2))
    curves = run.curves
    assert list(curves.columns) == ["trial_id", "configuration", "seed", "step", "epoch", "elapsed_s", "metric", "value"]
    accuracy = curves[curves.metric == "val/accuracy"]
    assert accuracy.groupby(["configuration", "seed"]).size().to_dict() == {(c, s): 2 for c in ("none", "light") for s in range(3)}
    last = accuracy[accuracy.epoch == 2].set_index("trial_id")["value"]
    assert last.to_dict() == run.results.set_index("trial_id")["val/accuracy"].to_dict()


def test_comparisons_are_those_of_the_report(make_run):
    comparisons = Run(make_run({"none": 0.8, "light": 0.7}, epochs=1)).comparisons
    assert list(comparisons.columns) == ["first", "second", "measure", "difference", "low", "high", "n", "p", "significant", "untested"]
    best = comparisons[comparisons.measure == "best val/accuracy"].iloc[0]
    assert (best["first"], best["second"], best["n"]) == ("none", "light", 3)
    assert best["low"] < best["difference"] < best["high"]
    assert best["difference"] == pytest.approx(0.1, abs=0.03)


def test_the_page_has_the_columns(make_run):
    run = Run(make_run({"none": 0.8, "light": 0.7}, epochs=1))
    page = (pages.ROOT / "docs/how-to/your-own-function.md").read_text(encoding="utf-8")
    shown = {name: re.findall(r"`(\w+)`", line) for name, line in re.findall(r"^\| `run\.(\w+)` \|(.*)", page, re.MULTILINE)}
    assert shown["curves"] == list(run.curves.columns)
    assert shown["comparisons"] == list(run.comparisons.columns)
    assert shown["best"][1:] == [field.name for field in fields(run.best)]


def test_a_run_is_opened_by_the_text_of_its_path(make_run):
    folder = make_run({"none": 0.8}, epochs=1)
    run = Run(str(folder))
    assert run == Run(folder)
    assert [trial.status for trial in run.trials] == ["finished"] * 3
    assert run.report == folder / "report.html"


@pytest.mark.parametrize("read", ["results", "curves", "comparisons", "best", "trials", "failed", "folders"])
def test_a_folder_without_a_run_is_named(tmp_path, read):
    run = Run(tmp_path / "missing")
    with pytest.raises(ValueError, match="missing: not a run folder"):
        getattr(run, read)


def test_a_run_of_one_configuration_has_no_comparisons(make_run):
    assert Run(make_run({"none": 0.8}, epochs=1)).comparisons.empty


def test_the_best_configuration_has_its_trials_best_first(make_run):
    run = Run(make_run({"none": 0.8, "light": 0.7}, epochs=1))
    best = run.best
    assert (best.name, best.hyperparameters, best.measure, best.n) == ("none", {"task.augmentation": "none"}, "best val/accuracy", 3)
    values = run.results.set_index("trial_id")["best val/accuracy"]
    assert list(values[list(best.trials)]) == sorted(values[run.results.set_index("trial_id").configuration == "none"], reverse=True)
    assert best.low < best.mean < best.high


def test_a_trial_that_failed_is_not_among_the_best(make_run):
    def alter(configuration, seed, epoch, metrics):
        return metrics | ({"val/accuracy": 0.999} if (configuration, seed) == ("none", 1) else {})

    run = Run(make_run({"none": 0.8, "light": 0.7}, epochs=4, endings={("none", 1): ("failed", "out of memory")}, alter=alter))
    statuses = {trial.trial_id: trial.status for trial in run.trials}
    assert (run.best.name, run.best.n) == ("none", 2)
    assert [statuses[trial_id] for trial_id in run.best.trials] == ["finished", "finished"]


def test_the_best_of_losses_is_the_least(make_run):
    sweep = {"name": "s", "metric": {"name": "val/loss", "mode": "min"}, "keys": []}

    def alter(configuration, seed, epoch, metrics):
        return metrics | {"val/loss": {"none": 2.0, "light": 1.0}[configuration] + seed}

    best = Run(make_run({"none": 0.8, "light": 0.7}, epochs=1, alter=alter, sweep=sweep)).best
    assert (best.name, best.mean) == ("light", 2.0)


def test_a_notebook_shows_the_page_in_a_frame(make_run):
    run = Run(make_run({"none": 0.8}, epochs=1))
    run.report.write_text('<p title="a">5 < 6 & "7"</p>', encoding="utf-8")
    shown = run._repr_html_()
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1]) == '<p title="a">5 < 6 & "7"</p>'
    assert 'sandbox="allow-scripts"' in shown
    assert str(run.report) in shown


def test_several_sweeps_are_told_apart(make_run):
    first, second = make_run({"none": 0.8}, epochs=1), make_run({"light": 0.7}, epochs=1)
    run = Run(first.parent)
    assert set(run.curves.index.get_level_values("sweep")) == {first.name, second.name}
    with pytest.raises(ValueError, match="has several sweeps"):
        run.best  # noqa: B018
