"""Statistical power of paired t tests: the differences that a number of seeds can show, and the seeds that a difference takes.

The power is that of the noncentral t distribution (Student's t of differences whose mean is not 0), not its normal approximation, which
promises too much with few seeds. Effects are in standard deviations of the paired differences. Several comparisons divide `ALPHA` by
their number, which is the first step of Holm's correction.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import chdtri, nctdtr, nctdtrinc, stdtrit

ALPHA = 0.05
"""Two-sided significance level of a family of comparisons."""

POWER = 0.8
"""Probability with which a difference should be found."""

ALL_PAIRS = 12
"""Up to this many configurations, every pair is compared. With more, each is compared with the best one, and the best come first."""

LARGE_T = 1000.0
"""Above it, the noise of the mean is negligible against that of the standard deviation, and SciPy's inverse may not return."""

MOST_SEEDS = 100_000
"""Largest number of seeds that `seeds_needed` returns: the largest number of trials of a sweep."""


def comparison_count(configurations: int) -> int:
    """Number of comparisons between so many configurations."""
    return configurations * (configurations - 1) // 2 if configurations <= ALL_PAIRS else configurations - 1


def detectable_effect(seeds: int, comparisons: int = 1) -> float:
    """Smallest mean difference that `seeds` pairs show with probability `POWER`, in standard deviations of the differences.

    Only a significant difference of the right sign counts as shown. Needs at least 2 seeds.
    """
    assert seeds >= 2, "a t test needs 2 pairs"
    degrees, critical = seeds - 1, _critical_t(seeds, comparisons)
    if critical > LARGE_T:
        return float(critical * np.sqrt(chdtri(degrees, 1 - POWER) / degrees / seeds))
    return float(nctdtrinc(degrees, 1 - POWER, critical) / np.sqrt(seeds))


def seeds_needed(effect: float, comparisons: int = 1) -> int | None:
    """Smallest number of pairs that show a mean difference of `effect` standard deviations; None if it is above `MOST_SEEDS`."""
    assert effect > 0, "no number of seeds shows a difference of 0"
    low, high = 1, 2  # `low` is too few
    while _power(effect, high, comparisons) < POWER:
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        if _power(effect, middle, comparisons) < POWER:
            low = middle
        else:
            high = middle
    return high


def pooled_spread(differences: Iterable[Sequence[float] | np.ndarray]) -> float | None:
    """Standard deviation of the paired differences, pooled over comparisons: each variance counts with its degrees of freedom.

    None if no comparison has 2 seeds.
    """
    squares, degrees = 0.0, 0
    for each in differences:
        if len(each) >= 2:
            squares += float(np.var(each, ddof=1)) * (len(each) - 1)
            degrees += len(each) - 1
    return float(np.sqrt(squares / degrees)) if degrees else None


def _critical_t(seeds: int, comparisons: int) -> float:
    return float(stdtrit(seeds - 1, 1 - ALPHA / max(comparisons, 1) / 2))


def _power(effect: float, seeds: int, comparisons: int) -> float:
    return float(1 - nctdtr(seeds - 1, effect * np.sqrt(seeds), _critical_t(seeds, comparisons)))
