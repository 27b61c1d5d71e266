import pytest

from ddl.reports.statistics import Estimate, compare, estimate
from ddl.reports.verdicts import BETTER, CANNOT_TELL, NOT_COMPARABLE, REPRODUCED, WORSE, compare_order, verdict_on


def spanning(low: float, high: float) -> Estimate:
    return Estimate(3, (low + high) / 2, low, high, "Student t")


@pytest.mark.parametrize(
    ("low", "high", "word", "expected"),
    [
        (0.79, 0.81, REPRODUCED, "within 0.8000 ± 0.02"),
        (0.74, 0.77, WORSE, "lower"),
        (0.83, 0.85, BETTER, "higher"),
        (0.77, 0.79, CANNOT_TELL, "partly"),
        (0.81, 0.83, CANNOT_TELL, "partly"),
        (0.81, 0.85, CANNOT_TELL, "partly"),
        (0.75, 0.79, CANNOT_TELL, "partly"),
        (0.10, 0.99, CANNOT_TELL, "partly"),
    ],
)
def test_verdicts_are_equivalence_tests(low, high, word, expected):
    verdict = verdict_on(spanning(low, high), 0.80, 0.02, [], [])
    assert verdict.word == word
    assert expected in verdict.why


@pytest.mark.parametrize(("low", "high", "word"), [(0.74, 0.77, BETTER), (0.83, 0.85, WORSE), (0.79, 0.81, REPRODUCED)])
def test_a_lower_value_is_better_if_the_metric_is_a_loss(low, high, word):
    assert verdict_on(spanning(low, high), 0.80, 0.02, [], [], "min").word == word


def test_obstacles_take_precedence_over_gaps():
    verdict = verdict_on(spanning(0.79, 0.81), 0.80, 0.02, ["at sample scale", "on a fallback data set"], ["1 of 3 failed"])
    assert (verdict.word, verdict.why) == (NOT_COMPARABLE, "at sample scale; on a fallback data set")


def test_missing_trials_decide_nothing_even_if_the_others_agree():
    assert verdict_on(spanning(0.79, 0.81), 0.80, 0.02, [], ["1 of 3 failed"]).word == CANNOT_TELL


def test_a_single_seed_decides_nothing():
    assert verdict_on(Estimate(1, 0.8), 0.8, 0.02, [], []).word == CANNOT_TELL


def ordering(reference: dict[str, float], values: dict[str, list[float]], mode: str = "max"):
    seeded = {name: dict(enumerate(v)) for name, v in values.items()}
    names = list(values)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return compare_order(reference, mode, {n: estimate(v) for n, v in values.items()}, compare(seeded, pairs))


def test_order_counts_pairs_and_those_that_are_significant():
    # a is far above both; b and c cross from seed to seed.
    o = ordering({"b": 0.7, "a": 0.8, "c": 0.6}, {"c": [0.50, 0.60, 0.40], "b": [0.52, 0.55, 0.46], "a": [0.99, 0.98, 0.985]})
    assert o.expected == ("a", "b", "c")
    assert (o.pairs, o.same, o.reversed, o.unmeasured) == (3, 3, (), 0)
    assert o.significant == 2
    assert "3 of 3 pairs have the same order in this run, 2 of them significantly." in o.sentence


def test_order_names_what_is_reversed_and_what_is_missing():
    o = ordering({"a": 0.8, "b": 0.7, "c": 0.6}, {"a": [0.5, 0.51, 0.49], "b": [0.9, 0.92, 0.93], "c": []})
    assert (o.pairs, o.same, o.unmeasured) == (3, 0, 2)
    assert "a / b (significant)" in o.sentence
    assert "2 pairs not measured yet" in o.sentence


def test_order_reads_the_best_first_where_less_is_better():
    assert ordering({"a": 0.8, "b": 0.7}, {"a": [0.5], "b": [0.4]}, "min").expected == ("b", "a")


def test_equal_reference_values_order_nothing():
    assert ordering({"a": 0.8, "b": 0.8}, {"a": [0.5], "b": [0.4]}) is None


def test_a_lead_by_easy_seeds_is_no_order():
    """b is better on both seeds that both have; a lacks the hard ones."""
    values = {"a": {0: 0.90, 1: 0.905, 2: 0.898}, "b": {0: 0.91, 1: 0.914, 2: 0.909, 3: 0.70, 4: 0.72}}
    estimates = {name: estimate(own.values()) for name, own in values.items()}
    o = compare_order({"a": 0.8, "b": 0.7}, "max", estimates, compare(values, [("a", "b")]))
    assert estimates["a"].mean > estimates["b"].mean
    assert (o.same, o.significant, len(o.reversed)) == (0, 0, 1)
    assert "Reversed: a / b (significant)." in o.sentence
