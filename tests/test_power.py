"""Power of paired t tests, compared with an integral over the distribution of the standard deviation and with simulated experiments."""

import numpy as np
import pytest
from scipy import integrate, stats

from ddl import power


def integrated_power(effect: float, seeds: int, comparisons: int) -> float:
    """Probability of a significant positive difference: that of a normal mean above t s / sqrt(n), integrated over s (chi)."""
    critical = stats.t.isf(0.025 / comparisons, seeds - 1)
    spread = stats.chi(seeds - 1, scale=1 / np.sqrt(seeds - 1))
    value, _ = integrate.quad(
        lambda s: stats.norm.sf(critical * s - effect * np.sqrt(seeds)) * spread.pdf(s), 0, spread.isf(1e-13), limit=500
    )
    return value


@pytest.mark.parametrize(("seeds", "comparisons"), [(2, 1), (3, 1), (3, 3), (5, 10), (10, 66), (40, 1)])
def test_the_detectable_effect_is_found_with_the_stated_power(seeds, comparisons):
    assert integrated_power(power.detectable_effect(seeds, comparisons), seeds, comparisons) == pytest.approx(0.8, abs=1e-5)


def test_many_comparisons_of_two_seeds_have_an_effect_too():
    few, many = power.detectable_effect(2, 5000), power.detectable_effect(2, 50_000)
    assert many / few == pytest.approx(10, rel=1e-3), "proportional to the critical t, which is large"
    # The chi distribution with 1 degree of freedom is that of |normal|, so s < s_0 with probability 0.8.
    assert many == pytest.approx(power._critical_t(2, 50_000) * stats.norm.isf(0.1) / np.sqrt(2), rel=1e-6)


def test_simulated_experiments_find_the_detectable_effect_as_often_as_stated():
    differences = np.random.default_rng(0).normal(power.detectable_effect(5), 1, size=(20_000, 5))
    assert np.mean(stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("effect", "comparisons"), [(3.0, 1), (1.0, 1), (1.0, 10), (0.5, 3), (0.2, 1)])
def test_the_seeds_needed_are_the_fewest_that_reach_the_power(effect, comparisons):
    needed = power.seeds_needed(effect, comparisons)
    assert integrated_power(effect, needed, comparisons) >= 0.8 > integrated_power(effect, needed - 1, comparisons)


def test_the_normal_approximation_is_the_limit_of_many_seeds_and_too_few_before():
    approximation = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) ** 2  # 7.85 seeds for an effect of 1
    assert power.seeds_needed(0.02) == pytest.approx(approximation / 0.02**2, rel=1e-3)
    assert power.seeds_needed(2.0) > approximation / 4 + 1


def test_two_seeds_are_enough_for_any_huge_effect_and_none_for_a_tiny_one():
    assert power.seeds_needed(1e6) == 2
    assert power.seeds_needed(1e-4) is None


def test_every_pair_is_compared_up_to_twelve_configurations():
    assert [power.comparison_count(n) for n in (0, 1, 2, 12, 13)] == [0, 0, 1, 66, 12]


def test_the_pooled_spread_weighs_variances_by_their_degrees_of_freedom():
    # Variances 1 (2 degrees) and 4.5 (1 degree): (2 + 4.5) / 3.
    assert power.pooled_spread([[1.0, 2.0, 3.0], [0.0, 3.0], [7.0], []]) == pytest.approx(np.sqrt(6.5 / 3))
    assert power.pooled_spread([[1.0]]) is None
