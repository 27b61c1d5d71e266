import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from ddl.reports.statistics import binomial_error, compare, estimate, holm, interquartile_mean, probability_of_superiority


def test_three_values_get_the_t_interval_of_the_textbook():
    # Mean 2, standard deviation 1, t(0.975, 2) = 4.3027: 2 +- 4.3027 / sqrt(3).
    e = estimate([1.0, 2.0, 3.0])
    assert (e.n, e.mean, e.method) == (3, 2.0, "Student t")
    assert e.high - 2 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert 2 - e.low == pytest.approx(e.high - 2)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert estimate([0.7]).mean == 0.7
    assert (estimate([0.7]).low, estimate([0.7]).high, estimate([0.7]).method) == (None, None, "")
    assert (estimate([]).n, estimate([]).mean) == (0, None)


def test_eight_values_get_the_bootstrap_and_seven_do_not():
    values = np.random.default_rng(1).exponential(size=8)
    e = estimate(values)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    assert (e.low, e.high, e.method) == (pytest.approx(theirs.low), pytest.approx(theirs.high), "BCa bootstrap")
    assert estimate(values) == e, "the same values must give the same interval every time"
    assert estimate(values[:7]).method == "Student t"


def test_the_bootstrap_accepts_values_without_spread():
    e = estimate([0.1] * 9)
    assert (e.low, e.high) == (e.mean, e.mean)


def test_the_memory_of_a_bootstrap_does_not_grow_with_the_number_of_values():
    values = np.random.default_rng(4).exponential(size=5_000)
    tracemalloc.start()
    estimates = [estimate(values), interquartile_mean(values)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6, "all resamples at once are 400 MB"
    assert all(e.low < e.mean < e.high and e.high - e.low < 0.1 for e in estimates)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(2).normal(size=(2000, 3))
    covered = [e.low <= 0 <= e.high for e in map(estimate, draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_holm_by_hand():
    # Sorted 0.005 0.01 0.03 0.04, times 4 3 2 1: 0.02 0.03 0.06 0.04, and never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_comparison_is_the_paired_t_test_over_common_seeds():
    a = {0: 0.81, 1: 0.79, 2: 0.80, 9: 0.10}
    b = {0: 0.78, 1: 0.775, 2: 0.79, 5: 0.99}
    (c,) = compare({"a": a, "b": b}, [("a", "b")])
    theirs = stats.ttest_rel([0.81, 0.79, 0.80], [0.78, 0.775, 0.79])
    assert c.difference.n == 3
    assert c.difference.mean == pytest.approx(0.055 / 3)
    assert c.p == pytest.approx(theirs.pvalue)
    assert c.p_holm == c.p


def test_significance_is_judged_after_the_correction():
    # a - b alone has p = 0.041; in a family of three it is no longer significant.
    values = {"a": {0: 3.0, 1: 3.5, 2: 4.4}, "b": {0: 1.0, 1: 2.3, 2: 1.8}, "c": {0: 2.0, 1: 2.1, 2: 1.0}}
    alone = compare(values, [("a", "b")])[0]
    family = compare(values, [("a", "b"), ("a", "c"), ("b", "c")])[0]
    assert alone.significant
    assert family.p == alone.p
    assert not family.significant
    assert family.p_holm > family.p


@pytest.mark.parametrize(
    ("second", "p", "untested"),
    [
        ({0: 0.8, 1: 0.9, 2: 0.7}, 1.0, ""),
        ({0: 0.7, 1: 0.8, 2: 0.6}, None, "spread"),
        ({2: 0.6, 3: 0.5}, None, "fewer than 2"),
        ({}, None, "fewer than 2"),
    ],
)
def test_differences_that_cannot_be_tested_say_so(second, p, untested):
    (c,) = compare({"a": {0: 0.8, 1: 0.9, 2: 0.7}, "b": second}, [("a", "b")])
    assert c.p == p
    assert untested in c.untested
    assert not c.significant


@pytest.mark.parametrize("n", [8, 9, 10, 11, 12])
def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end(n):
    values = np.random.default_rng(n).exponential(size=n)
    e = interquartile_mean(values)
    theirs = stats.bootstrap(
        (values,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=9999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (e.n, e.mean) == (n, pytest.approx(stats.trim_mean(values, 0.25)))
    # Rounding in another order of the sum changes which resampled means are equal, and with it the interval by a little.
    assert (e.low, e.high) == (pytest.approx(theirs.low, rel=0.01), pytest.approx(theirs.high, rel=0.01))


def test_one_seed_that_failed_to_learn_does_not_move_the_interquartile_mean():
    good = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97]
    assert interquartile_mean([0.1, *good[1:]]).mean == interquartile_mean(good).mean == pytest.approx(0.935)
    assert interquartile_mean(good[:7]) is None


def test_a_middle_half_without_spread_has_no_interval():
    e = interquartile_mean([0.1, *[0.5] * 7])
    assert (e.mean, e.low, e.high) == (0.5, None, None)


@pytest.mark.parametrize(("wins", "ties", "n"), [(5, 0, 5), (0, 0, 5), (3, 1, 7), (6, 4, 10), (0, 6, 6)])
def test_the_probability_of_superiority_is_that_of_wilsons_interval(wins, ties, n):
    differences = [1.0] * wins + [0.0] * ties + [-1.0] * (n - wins - ties)
    e = probability_of_superiority(dict(enumerate(differences)), dict.fromkeys(range(n), 0.0))
    p = (wins + ties / 2) / n
    assert e.mean == pytest.approx(p)
    # The limits are the proportions that p is 1.96 of their standard errors away from.
    for limit in (e.low, e.high):
        if 0 < limit < 1:
            assert abs(p - limit) == pytest.approx(stats.norm.isf(0.025) * math.sqrt(limit * (1 - limit) / n))
    if ties == 0:
        theirs = stats.binomtest(wins, n).proportion_ci(method="wilson")
        assert (e.low, e.high) == (pytest.approx(theirs.low, abs=1e-12), pytest.approx(theirs.high))


def test_the_probability_of_superiority_needs_five_common_seeds():
    first = dict.fromkeys(range(5), 1.0)
    assert probability_of_superiority(first, dict.fromkeys(range(1, 9), 0.0)) is None
    (c,) = compare({"a": first, "b": dict.fromkeys(range(5), 0.0)}, [("a", "b")])
    assert (c.superiority.mean, c.superiority.method) == (1.0, "Wilson")


def test_the_binomial_error_of_jordan_2023():
    assert binomial_error(0.94, 10_000) == pytest.approx(0.0024, abs=0.0001)
    assert binomial_error(0.94, 10_000) == pytest.approx(stats.binom(10_000, 0.94).std() / 10_000)
