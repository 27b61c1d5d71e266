"""The decisions of a race: their numbers against other implementations, and how often they are wrong."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import races
from ddl.sweeps.race_rules import EQUIVALENT, UNDECIDED, WINNER, Look, RaceRules, nominal_level


def rules(configurations: int = 3, at_least: int = 3, at_most: int = 12, margin: float = 0.0, mode: str = "max") -> RaceRules:
    return RaceRules(configurations, at_least, at_most, margin, mode)


A = [0.80, 0.82, 0.81, 0.79]
B = [0.40, 0.43, 0.40, 0.39]
"""Certainly worse than A."""
C = [0.81, 0.80, 0.82, 0.80]
"""About as good as A."""


@pytest.mark.parametrize(("at_least", "at_most", "level"), [(3, 20, 0.05), (3, 20, 0.01), (5, 8, 0.05)])
def test_the_tests_of_all_looks_together_are_wrong_as_often_as_intended(at_least, at_most, level):
    nominal = nominal_level(at_least, at_most, level)
    differences = np.random.default_rng(123).standard_normal((60_000, at_most))
    p_values = [stats.ttest_1samp(differences[:, :n], 0, axis=1, alternative="less").pvalue for n in range(at_least, at_most + 1)]
    wrong = (np.min(p_values, axis=0) < nominal).mean()
    assert wrong == pytest.approx(level, abs=4 * math.sqrt(level / 60_000))
    assert nominal < level


def test_a_single_look_has_the_whole_level():
    assert nominal_level(5, 5, 0.05) == 0.05


def test_a_configuration_that_is_certainly_worse_leaves_with_the_numbers_of_the_t_test():
    look = rules().look({"a": A, "b": B, "c": C}, min(B))
    (drop,) = look.drops
    found = [stats.ttest_rel(B, other, alternative="less").pvalue for other in (A, C)]
    assert (drop.seeds, drop.configuration, drop.better) == (4, "b", "ac"[int(np.argmin(found))])
    assert drop.p == pytest.approx(min(found))
    assert drop.level == nominal_level(3, 12, 0.05 / 3)
    differences = np.subtract(B, A if drop.better == "a" else C)
    interval = stats.t.interval(1 - 2 * drop.level, 3, differences.mean(), stats.sem(differences))
    assert (drop.low, drop.high) == pytest.approx(interval)
    assert (look.left, look.outcome) == (("a", "c"), "")


def test_the_direction_of_the_metric_decides_who_leaves():
    look = rules(2, mode="min").look({"a": A, "b": B}, max(A))
    assert [(drop.configuration, drop.better) for drop in look.drops] == [("a", "b")]
    assert look.drops[0].difference == pytest.approx(np.mean(A) - np.mean(B))
    assert look.drops[0].low < look.drops[0].difference < look.drops[0].high
    assert (look.left, look.outcome) == (("b",), WINNER)


def test_those_left_within_the_margin_are_equivalent():
    differences = np.subtract(A, C)
    level = rules(2).equivalence_level
    low, high = stats.t.interval(1 - 2 * level, 3, differences.mean(), stats.sem(differences))
    needed = max(abs(low), abs(high))
    assert rules(2, margin=1.001 * needed).look({"a": A, "c": C}, min(A)).outcome == EQUIVALENT
    assert rules(2, margin=0.999 * needed).look({"a": A, "c": C}, min(A)).outcome == ""


def test_all_pairs_left_must_lie_within_the_margin():
    never = rules(5000, at_most=4, margin=0.0075)  # so many comparisons that no configuration is dropped
    near = np.subtract(A, 0.005) + np.array([0.0005, -0.0005, 0.0005, -0.0005])
    far = np.subtract(A, 0.011) + np.array([0.0005, 0.0005, -0.0005, -0.0005])
    assert never.look({"a": A, "near": near}, 0).outcome == EQUIVALENT
    assert never.look({"near": near, "far": far}, 0).outcome == EQUIVALENT
    assert never.look({"a": A, "near": near, "far": far}, 0).outcome == UNDECIDED


def test_without_an_answer_the_last_look_says_so():
    assert rules(2, at_most=5).look({"a": A, "c": C}, min(A)).outcome == ""
    assert rules(2, at_most=4).look({"a": A, "c": C}, min(A)).outcome == UNDECIDED


def test_a_failed_trial_counts_as_the_worst_value():
    with_failure = [*B[:2], None, B[3]]
    as_worst = [*B[:2], 0.1, B[3]]
    assert rules().look({"a": A, "b": with_failure, "c": C}, 0.1) == rules().look({"a": A, "b": as_worst, "c": C}, 0.1)


def test_a_configuration_without_any_value_leaves_at_once():
    varied = [0.9, 0.2, 0.6]
    look = rules().look({"a": varied, "b": [0.3, 0.8, 0.5], "c": [None] * 3}, min(varied))
    assert [(drop.configuration, drop.difference) for drop in look.drops] == [("c", None)]


def test_nothing_is_decided_without_any_value():
    assert rules().look({name: [None] * 3 for name in "abc"}, None).left == ("a", "b", "c")
    assert rules(at_most=3).look({name: [None] * 3 for name in "abc"}, None).outcome == UNDECIDED


def test_values_that_no_seed_changes_need_as_many_seeds_as_a_sign_test():
    def look(seeds: int) -> str:
        return rules(2, at_most=20).look({"a": [0.9] * seeds, "b": [0.8] * seeds}, 0.8).outcome

    enough = next(n for n in itertools.count(3) if 0.5**n < rules(2, at_most=20).level)
    assert enough > 6
    assert look(enough) == WINNER
    assert look(enough - 1) == ""


def test_configurations_that_are_the_same_are_equivalent_without_a_margin():
    seeds = 10
    values = list(np.random.default_rng(0).random(seeds))
    assert rules(2, at_most=20).look({"a": values, "b": values}, min(values)).outcome == EQUIVALENT


@pytest.mark.parametrize("name", ["equal", "skewed", "unequal spread"])
def test_races_are_rarely_wrong(name):
    wrong, dropped, *_ = races.percentages(races.SETTINGS[name], 4, 3, 12, 400)
    assert wrong <= 5
    assert dropped <= 5


def test_a_clear_lead_needs_fewer_trials():
    *_, settled, spent = races.percentages(races.SETTINGS["far"], 5, 3, 20, 100)
    assert settled == 100
    assert spent < 50


def test_a_seed_that_all_lost_is_no_evidence_that_they_are_equal():
    lost = [None] * 60
    decide = rules(2, at_most=64, margin=0.009).look
    assert decide({"a": A, "c": C}, 0.5).outcome == ""
    assert decide({"a": A + lost, "c": C + lost}, 0.5) == Look((), ("a", "c"), UNDECIDED), "not equivalent"
    assert rules(2, at_least=4, margin=1.0).look({"a": [*A[:3], None], "c": [*C[:3], None]}, 0.5).outcome == "", "too few to look at"
    (before,), (after,) = (rules(2).look({"a": A + more, "b": B + more}, min(B)).drops for more in ([], [None]))
    assert (after.p, after.low, after.high) == (before.p, before.low, before.high)
