"""The report says which differences its seeds can show, and keeps "cannot tell" apart from "no difference"."""

import numpy as np
import pytest
from scipy import optimize, stats

from ddl.reports import html, model, narrative
from ddl.reports.sections.comparisons import comparison_table
from ddl.reports.sensitivity import find_sensitivity, sensitivity_text
from ddl.reports.statistics import compare

from .test_html import text

VALUES = {"a": {0: 0.80, 1: 0.82, 2: 0.81}, "b": {0: 0.79, 1: 0.80, 2: 0.82}, "c": {0: 0.70, 1: 0.75, 2: 0.71}}
PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


def by_hand(spread: float, seeds: int, comparisons: int) -> float:
    """The difference at which the noncentral t distribution has a fifth of its mass below the critical value."""
    critical = stats.t.isf(0.025 / comparisons, seeds - 1)
    noncentrality = optimize.brentq(lambda nc: stats.nct.cdf(critical, seeds - 1, nc) - 0.2, 0.1, 100)
    return noncentrality / np.sqrt(seeds) * spread


def test_the_detectable_difference_is_that_of_the_pooled_spread():
    found = find_sensitivity(compare(VALUES, PAIRS), VALUES, margin=0.05)
    variances = [np.var([VALUES[a][s] - VALUES[b][s] for s in range(3)], ddof=1) for a, b in PAIRS]
    spread = np.sqrt(np.mean(variances))
    assert (found.seeds, found.comparisons) == (3, 3)
    assert found.spread == pytest.approx(spread)
    assert found.difference == pytest.approx(by_hand(spread, 3, 3), rel=1e-5)
    assert by_hand(spread, found.needed, 3) <= 0.05 < by_hand(spread, found.needed - 1, 3)
    said = sensitivity_text(found)
    assert f"With 3 seeds this run can show differences from {found.difference:.4f} on" in said
    assert f"A difference of 0.05 (the margin of this sweep) would take {found.needed} seeds." in said
    assert "cannot have a p-value below 0.25, 0.75 after the correction" in said


def test_without_a_test_or_a_spread_nothing_is_said():
    assert find_sensitivity(compare({"a": {0: 1.0}, "b": {0: 2.0}}, [("a", "b")]), {"a": {0: 1.0}, "b": {0: 2.0}}) is None
    same = {"a": {0: 1.0, 1: 2.0}, "b": {0: 1.0, 1: 2.0}}
    assert find_sensitivity(compare(same, [("a", "b")]), same) is None


def test_a_sign_flip_test_is_mentioned_only_if_it_could_not_find_anything():
    generator = np.random.default_rng(0)
    for seeds, hopeless in ((5, True), (6, False)):
        values = {name: dict(enumerate(generator.normal(size=seeds))) for name in "ab"}
        assert ("sign-flip" in sensitivity_text(find_sensitivity(compare(values, [("a", "b")]), values))) is hopeless


@pytest.mark.parametrize(
    ("second", "margin", "expected"),
    [
        ([0.80, 0.82, 0.79], 0.0, "cannot tell: difference not significant"),
        ([0.80, 0.82, 0.79], 0.001, "cannot tell: difference not significant"),
        ([0.80, 0.82, 0.79], 0.5, "no difference of 0.5 or more"),
        ([0.70, 0.711, 0.721], 0.0, "significant"),
        ([0.70, 0.711, 0.721], 0.5, "significant, but smaller than 0.5"),
        ([0.81, 0.82, 0.83], 0.0, "identical values"),
        ([0.70, 0.71, 0.72], 0.1, "not tested: the difference is the same for every seed, so its spread is unknown"),
    ],
)
def test_cannot_tell_is_not_no_difference(second, margin, expected):
    (c,) = compare({"a": {0: 0.81, 1: 0.82, 2: 0.83}, "b": dict(enumerate(second))}, [("a", "b")])
    assert narrative.reading(c, margin) == expected


def test_the_page_has_the_margin_of_the_launch_settings(make_run):
    final = {"none": 0.80, "light": 0.801}
    wide, none = (html.render_html(model.build_report([make_run(final, launch=launch)])) for launch in ({"margin": 0.5}, {}))
    assert "no difference of 0.5 or more" in text(wide)
    assert "(the margin of this sweep) would take 2 seeds." in text(wide)
    assert "cannot tell: difference not significant" in text(none)
    assert "the margin of this sweep" not in text(none)


def test_a_configuration_with_few_seeds_does_not_speak_for_the_others():
    values = {"a": {s: 0.8 + s % 3 / 100 for s in range(9)}, "b": {s: 0.8 + s % 4 / 100 for s in range(9)}, "c": {0: 0.7, 1: 0.75, 2: 0.71}}
    found = find_sensitivity(compare(values, PAIRS), values)
    assert (found.seeds, found.comparisons) == (9, 3)
    assert sensitivity_text(found).startswith("With 9 seeds in common, the most of any pair, this run can show differences from")


def test_a_configuration_that_left_a_race_is_left_out(make_run):
    race = {
        "seeds": 3,
        "left": ["a", "b"],
        "outcome": "equivalent",
        "drops": [{"configuration": "c", "seeds": 2}],
        "rules": {"margin": 0.1},
    }
    (run,) = model.build_report([make_run({"a": 0.8, "b": 0.79, "c": 0.5}, epochs=1, race=race)]).runs
    assert "in each of" not in comparison_table(run).sensitivity, "one comparison"
