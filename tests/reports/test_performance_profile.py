"""Performance profiles over several runs, counted by hand."""

import pytest

from ddl.reports import html, model
from ddl.reports.performance_profile import TAUS, performance_profile

from .test_html import text


def runs_of(make_run, *described: dict) -> list[model.RunReport]:
    folders = []
    for each in described:
        metric, values, endings = each["metric"], each["values"], each.get("endings", {})

        def alter(configuration, seed, epoch, metrics, metric=metric, values=values):
            return metrics | {metric: values[configuration][seed]}

        sweep = {"name": "s", "metric": {"name": metric, "mode": each["mode"]}, "keys": []}
        seeds = range(len(next(iter(values.values()))))
        folders.append(make_run(dict.fromkeys(values, 0.5), seeds=seeds, epochs=1, sweep=sweep, endings=endings, alter=alter))
    return list(model.build_report(folders).runs)


ACCURACY = {"metric": "val/accuracy", "mode": "max", "values": {"a": [0.80, 0.50], "b": [0.79, 0.60], "only here": [0.99, 0.99]}}
LOSS = {"metric": "val/loss", "mode": "min", "values": {"a": [1.0, 2.0], "b": [1.3, 1.0]}}


def test_the_fraction_of_runs_and_seeds_within_a_distance_of_the_best(make_run):
    found = performance_profile(runs_of(make_run, ACCURACY, LOSS))
    # Distances of a: 0, 1/6, 0, 1. Distances of b: 1/80, 0, 0.3, 0.
    assert found.pairs == 4
    assert dict(zip(TAUS, found.rows["a"], strict=True)) == {0.0: 0.5, 0.01: 0.5, 0.02: 0.5, 0.05: 0.5, 0.1: 0.5, 0.2: 0.75, 0.5: 0.75}
    assert dict(zip(TAUS, found.rows["b"], strict=True)) == {0.0: 0.5, 0.01: 0.5, 0.02: 0.75, 0.05: 0.75, 0.1: 0.75, 0.2: 0.75, 0.5: 1.0}
    assert list(found.rows) == ["a", "b"]


def test_a_distance_of_five_percent_is_within_five_percent(make_run):
    exact = {"metric": "val/accuracy", "mode": "max", "values": {"a": [1.0, 1.0], "b": [0.95, 0.99]}}
    found = performance_profile(runs_of(make_run, exact, exact))
    assert dict(zip(TAUS, found.rows["b"], strict=True)) == {0.0: 0.0, 0.01: 0.5, 0.02: 0.5, 0.05: 1.0, 0.1: 1.0, 0.2: 1.0, 0.5: 1.0}


def test_a_diverged_trial_is_within_no_distance_and_a_running_one_not_counted(make_run):
    lost = ACCURACY | {"endings": {("b", 0): ("diverged", "")}}
    running = LOSS | {"endings": {("a", 1): ("running", "")}}
    found = performance_profile(runs_of(make_run, lost, running))
    assert found.pairs == 3
    assert found.rows["b"][-1] == pytest.approx(2 / 3)


def test_runs_that_share_fewer_than_two_configurations_have_no_profile(make_run):
    other = LOSS | {"values": {"a": [1.0], "c": [2.0]}}
    first, second = runs_of(make_run, ACCURACY, other)
    assert performance_profile([first, second]) is None
    assert performance_profile([first]) is None


def test_the_page_of_several_runs_has_the_profile_with_its_method(make_run):
    folders = [run.folder for run in runs_of(make_run, ACCURACY, LOSS)]
    page = text(html.render_html(model.build_report(folders)))
    assert "Fraction of 4 runs and seeds" in page
    assert 'href="#methods-profile"' in page
    assert "Performance profile" not in text(html.render_html(model.build_report(folders[:1])))
