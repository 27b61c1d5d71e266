"""Statistics over few seeds: intervals of means, and paired differences.

With few values the bootstrap covers less than 95% (resampling two or three values cannot show where a fourth would be). Up to seven
values therefore get Student's t interval, and eight or more the bias-corrected and accelerated (BCa) bootstrap of Efron, "Better
Bootstrap Confidence Intervals", JASA 82 (1987). Differences are paired by seed, because a seed fixes the initial weights and the order
of the data for every configuration, and tested with the paired t test. Holm's correction ("A Simple Sequentially Rejective Multiple
Test Procedure", Scand. J. Statist. 6, 1979) keeps the probability of any false positive in one family of comparisons below 5%.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit  # all of scipy.stats would take seconds to import

from ddl.power import ALPHA

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 8
RESAMPLES = 9999

BLOCK = 2**20
"""Most values that are resampled at once: memory must not grow with the number of values."""

INTERQUARTILE_FROM = 8
"""Fewest values with an interquartile mean: it is the mean of 4 of them."""

SUPERIORITY_FROM = 5
"""Fewest pairs with a probability of superiority: with 4 wins of 4, its interval would still begin at 0.51."""


@dataclass(frozen=True)
class Estimate:
    """The mean of `n` values and its 95% interval; `low` and `high` are None if n < 2, `mean` if n is 0.

    `method` is "Student t", "BCa bootstrap", "Wilson", or "" without an interval.
    """

    n: int
    mean: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""


@dataclass(frozen=True)
class Comparison:
    """`first` minus `second` over the `difference.n` seeds that both have.

    `p` is the two-sided p-value of the paired t test, `p_holm` the same after Holm's correction over the family. Both are None if no
    test is possible; `untested` then has the reason. `superiority` is that of `probability_of_superiority`.
    """

    first: str
    second: str
    difference: Estimate
    p: float | None
    p_holm: float | None
    untested: str = ""
    superiority: Estimate | None = None

    @property
    def significant(self) -> bool:
        """True if the corrected p-value is below `ALPHA`."""
        return self.p_holm is not None and self.p_holm < ALPHA

    def lead_of(self, name: str, mode: str) -> Estimate:
        """Lead of configuration `name` over the other one: the difference, positive if `name` is better by `mode` ("max", "min")."""
        assert name in (self.first, self.second), name
        d = self.difference
        if (self.first == name) == (mode == "max"):
            return d
        mean, low, high = (None if value is None else -value for value in (d.mean, d.high, d.low))
        return Estimate(d.n, mean, low, high, d.method)


def t_quantile(degrees: float | np.ndarray) -> float | np.ndarray:
    """Student's t of the two-sided 95% interval, for a number of degrees of freedom or an array of them."""
    return stdtrit(degrees, (1 + CONFIDENCE) / 2)


def estimate(values: Iterable[float]) -> Estimate:
    """Mean and 95% interval of finite `values`, by the rule in the module docstring."""
    x = np.asarray(list(values), dtype=np.float64)
    assert np.isfinite(x).all(), "values must be finite: remove and count the others first"
    if x.size == 0:
        return Estimate(0, None)
    mean = float(x.mean())
    if x.size == 1:
        return Estimate(1, mean)
    if x.size < BOOTSTRAP_FROM:
        half = float(t_quantile(x.size - 1) * x.std(ddof=1) / np.sqrt(x.size))
        return Estimate(x.size, mean, mean - half, mean + half, "Student t")
    if np.ptp(x) == 0:  # BCa divides by the spread
        return Estimate(x.size, mean, mean, mean, "BCa bootstrap")
    return _bootstrapped(x, _mean, x)


def interquartile_mean(values: Iterable[float]) -> Estimate | None:
    """Mean of the middle half of finite `values` and its BCa interval; None if there are fewer than `INTERQUARTILE_FROM`.

    A quarter of the values, rounded down, is left out at each end (Agarwal et al., NeurIPS 2021). Without an interval if leaving out any
    one value changes nothing, because BCa measures its acceleration by that.
    """
    x = np.asarray(list(values), dtype=np.float64)
    if x.size < INTERQUARTILE_FROM:
        return None
    quarter = (x.size - 1) // 4  # of the others, if one value is left out
    influence = np.clip(x, *np.sort(x)[[quarter, x.size - 1 - quarter]])
    if np.ptp(influence) == 0:
        return Estimate(x.size, float(_middle_mean(x)))
    return _bootstrapped(x, _middle_mean, influence)


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean along the last axis."""
    return x.mean(axis=-1)


def _middle_mean(x: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis."""
    n = x.shape[-1]
    return np.sort(x, axis=-1)[..., n // 4 : n - n // 4].mean(axis=-1)


def _bootstrapped(x: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], influence: np.ndarray) -> Estimate:
    """The statistic of `x` along its last axis, with its BCa interval.

    `influence` has for each value how much the statistic falls if that value is left out, apart from a factor and a constant. SciPy's
    bootstrap gives the same interval, but its memory and time are quadratic in the number of values.
    """
    value, generator = float(statistic(x)), np.random.default_rng(0)
    at_once = max(1, BLOCK // x.size)
    blocks = [min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once)]
    resampled = np.concatenate([statistic(x[generator.integers(0, x.size, (block, x.size))]) for block in blocks])
    bias = ndtri(((resampled < value).mean() + (resampled <= value).mean()) / 2)
    u = influence - influence.mean()
    u /= np.abs(u).max()
    acceleration = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    ends = bias + ndtri(np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    low, high = np.quantile(resampled, ndtr(bias + ends / (1 - acceleration * ends)))
    return Estimate(x.size, value, float(low), float(high), "BCa bootstrap")


def probability_of_superiority(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate | None:
    """Probability that `first` has the larger value on a seed, with its Wilson interval; None below `SUPERIORITY_FROM` common seeds.

    A tie counts half (Bouthillier et al., MLSys 2021). Their bootstrap over seeds has an interval of length 0 if all seeds agree, which
    few seeds often do; Wilson's interval of a proportion (JASA 22, 1927) does not.
    """
    differences = paired_differences(first, second)
    n = differences.size
    if n < SUPERIORITY_FROM:
        return None
    p = float((np.sign(differences) + 1).mean() / 2)
    z2 = float(ndtri((1 + CONFIDENCE) / 2)) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return Estimate(n, p, max(0.0, float(centre - half)), min(1.0, float(centre + half)), "Wilson")


def binomial_error(accuracy: float, examples: int) -> float:
    """Standard error of an accuracy (0..1) that was measured on so many examples, if they are a random sample."""
    return float(np.sqrt(accuracy * (1 - accuracy) / examples))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values in the given order: step down from the smallest, non-decreasing, at most 1."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def compare(values: Mapping[str, Mapping[int, float]], pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    """Paired differences of `pairs`, corrected as one family. `values` maps configuration -> seed -> finite value."""
    tested = [_paired(values[first], values[second]) for first, second in pairs]
    family = [p for _, p, _ in tested if p is not None]
    adjusted = iter(holm(family))
    return [
        Comparison(
            first,
            second,
            difference,
            p,
            next(adjusted) if p is not None else None,
            untested,
            probability_of_superiority(values[first], values[second]),
        )
        for (first, second), (difference, p, untested) in zip(pairs, tested, strict=True)
    ]


def untested(comparison: Comparison, reason: str) -> Comparison:
    """The comparison without its test and its probability of superiority, which assume independent seeds."""
    return replace(comparison, p=None, p_holm=None, untested=reason, superiority=None)


def paired_differences(first: Mapping[int, float], second: Mapping[int, float]) -> np.ndarray:
    """`first` minus `second` for each common seed, in the order of the seeds."""
    return np.array([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])


def _paired(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[Estimate, float | None, str]:
    seeds = sorted(first.keys() & second.keys())
    differences = paired_differences(first, second)
    difference = estimate(differences)
    if len(seeds) < 2:
        return difference, None, "fewer than 2 common seeds"
    scale = max(abs(value) for seed in seeds for value in (first[seed], second[seed]))
    if np.ptp(differences) <= 1e-12 * scale:
        # Without spread t is infinite or 0/0: an effect of rounding, not of the configurations.
        if np.abs(differences).max() <= 1e-12 * scale:
            return difference, 1.0, ""
        return difference, None, "the difference is the same for every seed, so its spread is unknown"
    t = differences.mean() / (differences.std(ddof=1) / np.sqrt(differences.size))
    return difference, float(2 * stdtr(differences.size - 1, -abs(t))), ""


def unpaired_difference(first: Iterable[float], second: Iterable[float]) -> Estimate:
    """Mean of `first` minus mean of `second`, independent samples of finite values, and Welch's 95% interval.

    `n` is the smaller of the two numbers of values. The variances may differ; the degrees of freedom are those of Welch, "The
    Generalization of 'Student's' Problem when Several Different Population Variances are Involved", Biometrika 34 (1947). There is no
    interval if a sample has fewer than two values, or if neither has any spread.
    """
    x, y = (np.asarray(list(values), dtype=np.float64) for values in (first, second))
    n = min(x.size, y.size)
    if n == 0:
        return Estimate(0, None)
    difference = float(x.mean() - y.mean())
    if n == 1:
        return Estimate(1, difference)
    errors = np.array([values.var(ddof=1) / values.size for values in (x, y)])
    if not errors.sum() > 0:
        return Estimate(n, difference)
    degrees = errors.sum() ** 2 / (errors**2 / np.array([x.size - 1, y.size - 1])).sum()
    half = float(t_quantile(degrees) * np.sqrt(errors.sum()))
    return Estimate(n, difference, difference - half, difference + half, "Welch t")
