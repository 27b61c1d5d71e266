"""When a race drops a configuration, and when its answer is settled.

A race gives every configuration the same seeds, one round after another, and looks at the values after each round. Errors are limited
over all looks and all configurations together, at `ALPHA` = 5%:

- A configuration leaves when a one-sided paired t test says that another one in the race is better. A best configuration can only be
  dropped by one of the k - 1 others. At the level ALPHA / k for each comparison, the probability that a race drops a given best
  configuration is below 5%, and so is that of declaring a winner although all k are equal (Bonferroni's inequality).
- The configurations left are equivalent when the interval of every pair's difference lies within the margin. If one pair differs by more
  than the margin, this is wrong only if that pair's own test is, so each pair is tested at ALPHA (Berger, Technometrics 24, 1982).
- Looking repeatedly raises the probability that a test is wrong at one of the looks. Every look therefore uses the same smaller nominal
  level (Pocock, Biometrika 64, 1977), such that the probability over all looks from `at_least` to `at_most` seeds is the intended one. It
  is computed from simulated sequences of normally distributed differences, since t does not depend on their variance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Self

import numpy as np
from scipy.special import stdtr, stdtrit  # all of scipy.stats would take seconds to import

ALPHA = 0.05
SEQUENCES, SIMULATED_AT_ONCE = 1_000_000, 50_000
"""Simulated sequences for a level, and of them at once. They are fewer for races of more than 200 seeds, which bounds time and memory."""
FEWEST = 100
"""Fewest simulated sequences that a quantile is taken from."""

WINNER, EQUIVALENT, UNDECIDED = "winner", "equivalent", "undecided"
"""Outcomes of a race: one configuration is left; those left lie within the margin of each other; neither, after `at_most` seeds."""

Values = Mapping[str, Sequence[float | None]]
"""Each configuration's values in the order of the seeds, the same seeds for all; None for a trial that failed or diverged."""


@dataclass(frozen=True)
class Drop:
    """A configuration that left the race after `seeds` seeds because `better` is certainly better.

    `difference` is the mean of its paired differences to `better`, in units of the metric, and `low` and `high` are their interval, which
    holds at all looks together. `p` is the one-sided p-value of this look and `level` the nominal level that it is below. Without any
    value of its own, the configuration has no numbers.
    """

    seeds: int
    configuration: str
    better: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    level: float | None = None


@dataclass(frozen=True)
class Look:
    """The findings of a race after a round: the configurations that leave, those that are left, and the outcome, or "" if it continues."""

    drops: tuple[Drop, ...]
    left: tuple[str, ...]
    outcome: str


@dataclass(frozen=True)
class RaceRules:
    """The rules of a race of `configurations` configurations.

    at_least, at_most: seeds of each configuration before the first look, and at the last. margin: largest difference of the metric that
    does not matter. mode: "max" if larger values are better, else "min".
    """

    configurations: int
    at_least: int
    at_most: int
    margin: float
    mode: str

    @property
    def level(self) -> float:
        """Nominal level of one look at one comparison that may drop a configuration."""
        return nominal_level(self.at_least, self.at_most, ALPHA / self.configurations)

    @property
    def equivalence_level(self) -> float:
        """Nominal level of one look at one of the two one-sided tests of equivalence."""
        return nominal_level(self.at_least, self.at_most, ALPHA)

    def look(self, values: Values, worst: float | None) -> Look:
        """Look at the `values` of the configurations that are left, which have equally many.

        `worst` is the worst value of any trial of the race so far, and counts as the value of a trial that failed or diverged. A seed that
        all configurations lost says nothing about their differences and does not count. Nothing is decided before `at_least` seeds count,
        and `worst` is None if no trial has a value.
        """
        names = list(values)
        seeds = len(values[names[0]])
        assert seeds >= self.at_least, "a look before the first round has ended"
        last = UNDECIDED if seeds >= self.at_most else ""
        rounds = [own for own in zip(*values.values(), strict=True) if any(value is not None for value in own)]
        if worst is None or len(rounds) < self.at_least:
            return Look((), tuple(names), last)
        sign = 1.0 if self.mode == "max" else -1.0
        scores = sign * np.array(
            [[worst if value is None else value for value in own] for own in zip(*rounds, strict=True)], dtype=np.float64
        )
        differences = PairedDifferences.of(scores)
        p_values = differences.p_of_at_least_zero()
        drops = []
        for row, name in enumerate(names):
            better = int(p_values[row].argmin())
            if p_values[row, better] < self.level:
                mean, half = sign * differences.mean[row, better], differences.half_widths(self.level)[row, better]
                p = float(p_values[row, better])
                drops.append(Drop(seeds, name, names[better], float(mean), float(mean - half), float(mean + half), p, self.level))
            elif len(names) > 1 and all(value is None for value in values[name]):
                drops.append(Drop(seeds, name, names[int(differences.mean[row].argmin())]))
        gone = {drop.configuration for drop in drops}
        left = [row for row, name in enumerate(names) if name not in gone]
        farthest = np.abs(differences.mean) + differences.half_widths(self.equivalence_level)
        if len(left) == 1:
            outcome = WINNER
        elif all(farthest[first, second] <= self.margin for first, second in combinations(left, 2)):
            outcome = EQUIVALENT
        else:
            outcome = last
        return Look(tuple(drops), tuple(names[row] for row in left), outcome)


@dataclass(frozen=True)
class PairedDifferences:
    """Differences of k configurations over the same `n` seeds: entry [i, j] is configuration i minus configuration j.

    mean, deviation: mean and standard deviation [k, k]. The deviation is 0 for differences that are the same within rounding.
    """

    n: int
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray) -> Self:
        """The differences of `scores` [k, n], n > 1."""
        differences = scores[:, None] - scores[None]
        alike = np.ptp(differences, axis=2) <= 1e-12 * np.abs(differences).max(axis=2)
        return cls(scores.shape[1], differences.mean(axis=2), np.where(alike, 0.0, differences.std(axis=2, ddof=1)))

    def p_of_at_least_zero(self) -> np.ndarray:
        """One-sided p-values [k, k] of the paired t test that the mean is at least 0: small if it is certainly below.

        Differences that are all the same have no spread. Their p-value is that of the sign test, 2^-n.
        """
        alike = self.deviation == 0
        t = self.mean / np.where(alike, 1.0, self.deviation / math.sqrt(self.n))
        return np.where(alike, np.where(self.mean < 0, 0.5**self.n, 1.0), stdtr(self.n - 1, t))

    def half_widths(self, level: float) -> np.ndarray:
        """Half the widths [k, k] of t intervals with one-sided error `level`.

        They are infinite for differences that have no spread and are too few for the sign test to reach the level.
        """
        certain = 0.0 if 0.5**self.n < level else math.inf
        return np.where(self.deviation == 0, certain, stdtrit(self.n - 1, 1 - level) * self.deviation / math.sqrt(self.n))


@lru_cache
def nominal_level(at_least: int, at_most: int, level: float) -> float:
    """The nominal level of each look with which a one-sided paired t test is wrong at any of the looks with probability `level`.

    The looks are after at_least, at_least + 1, ..., at_most differences. It is the quantile `level` of the smallest p-value of
    simulated sequences of normally distributed differences without a mean, from a fixed seed. A level that too few of them reach is
    divided by the number of looks, which is a little lower than needed (Bonferroni).
    """
    if at_least == at_most:
        return level
    shorter = min(1.0, 200 / at_most)
    sequences, at_once = int(SEQUENCES * shorter), int(SIMULATED_AT_ONCE * shorter)
    if level * sequences < FEWEST:
        return level / (at_most - at_least + 1)
    generator = np.random.default_rng(0)
    looks = np.arange(at_least, at_most + 1)
    smallest: list[np.ndarray] = []
    # t has heavier tails with fewer differences, so a p-value below `level` has a |t| of at least the largest sample's quantile.
    threshold = stdtrit(at_most - 1, level)
    for _ in range(sequences // at_once):
        sampled = generator.standard_normal((at_most, at_once))
        sums, squares = sampled.cumsum(axis=0)[at_least - 1 :], np.square(sampled).cumsum(axis=0)[at_least - 1 :]
        n = looks[:, None]
        t = sums / np.sqrt(n * (squares - sums**2 / n) / (n - 1))
        look, sequence = np.nonzero(t < threshold)
        p = stdtr(looks[look] - 1.0, t[look, sequence])
        least = np.ones(at_once)
        np.minimum.at(least, sequence, p)
        smallest.append(least[least < level])
    found = np.sort(np.concatenate(smallest))
    return float(found[round(level * (sequences // at_once) * at_once) - 1])
