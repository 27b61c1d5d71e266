"""Frequency of a race's errors, and the trials that it spends, in simulated sweeps with known means.

    python -m benchmarks.races [--sweeps 10000] [--at-least 3] [--at-most 20] [--configurations 3 5 8 12]

A trial's value is its configuration's mean, an effect of its seed that all configurations share, and noise of its own with mean 0. Lengths
are in standard deviations of a paired difference. The settings:

- equal: all means are equal. Any winner is wrong, and the best one is a given one of them.
- near, far: the best configuration leads all others by 0.5 and by 2.
- graded: each configuration is 0.75 behind the one before it.
- unequal spread: equal means; the noise of the configurations is between 0.25 and 4 times as large as elsewhere.
- skewed: equal means; one half of the configurations has exponentially distributed noise with its long tail at bad values, the other
  half normal noise.
- equivalent: equal means and a margin of 2; "equivalent" is the right answer.
- not equivalent: the best one leads by exactly the margin of 2, so that "equivalent" is just wrong.

Reported are the percentages of sweeps in which a wrong winner was declared, the best configuration was dropped, the configurations left
were declared equivalent, and the race was settled; and the trials spent, in percent of `at_most` seeds for every configuration.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddl.sweeps.race_rules import EQUIVALENT, UNDECIDED, WINNER, RaceRules

NOISE = 1 / np.sqrt(2)
"""Standard deviation of a trial's own noise, with which a paired difference has the standard deviation 1."""


@dataclass(frozen=True)
class Setting:
    """Simulated sweeps: `means(k)` of the configurations, best first, `noise(generator, k, n)` of their trials [k, n], and the margin."""

    means: Callable[[int], np.ndarray]
    noise: Callable[[np.random.Generator, int, int], np.ndarray]
    margin: float = 0.0


def lead(by: float) -> Callable[[int], np.ndarray]:
    """Means of which the first one is larger than the others, which are equal."""
    return lambda k: np.r_[0.0, np.full(k - 1, -by)]


def normal(generator: np.random.Generator, k: int, n: int) -> np.ndarray:
    """Normal noise, of the same size for all configurations."""
    return NOISE * generator.standard_normal((k, n))


def unequal(generator: np.random.Generator, k: int, n: int) -> np.ndarray:
    """Normal noise of different sizes."""
    return normal(generator, k, n) * np.geomspace(0.25, 4, k)[:, None]


def skewed(generator: np.random.Generator, k: int, n: int) -> np.ndarray:
    """Noise with a long tail at bad values for every second configuration, from the first on, and normal noise for the others."""
    noise = normal(generator, k, n)
    noise[::2] = NOISE * (1 - generator.standard_exponential((len(noise[::2]), n)))
    return noise


SETTINGS = {
    "equal": Setting(lead(0.0), normal),
    "near": Setting(lead(0.5), normal),
    "far": Setting(lead(2.0), normal),
    "graded": Setting(lambda k: -0.75 * np.arange(k), normal),
    "unequal spread": Setting(lead(0.0), unequal),
    "skewed": Setting(lead(0.0), skewed),
    "equivalent": Setting(lead(0.0), normal, margin=2.0),
    "not equivalent": Setting(lead(2.0), normal, margin=2.0),
}


@dataclass(frozen=True)
class Race:
    """The end of a simulated race: the configurations left, the outcome, and the trials spent."""

    left: tuple[str, ...]
    outcome: str
    trials: int


def race(rules: RaceRules, scores: np.ndarray) -> Race:
    """Race with the values `scores` [k, at_most]."""
    left = tuple(str(row) for row in range(len(scores)))
    trials = rules.at_least * len(left)
    for seeds in range(rules.at_least, rules.at_most + 1):
        trials += len(left) if seeds > rules.at_least else 0
        look = rules.look({name: scores[int(name), :seeds].tolist() for name in left}, float(scores.min()))
        left = look.left
        if look.outcome:
            return Race(left, look.outcome, trials)
    raise AssertionError("the last look has an outcome")


def percentages(setting: Setting, configurations: int, at_least: int, at_most: int, sweeps: int) -> list[float]:
    """Percentages of wrong winners, dropped best configurations, equivalence, settled races, and trials spent."""
    rules = RaceRules(configurations, at_least, at_most, setting.margin, "max")
    generator = np.random.default_rng(configurations)
    means = setting.means(configurations)
    ties = int((means == means.max()).sum())
    counts = np.zeros(5)
    for _ in range(sweeps):
        seed_effects = generator.standard_normal(at_most)
        ended = race(rules, means[:, None] + seed_effects + setting.noise(generator, configurations, at_most))
        won = ended.outcome == WINNER
        counts += [
            won and (ties > 1 or ended.left != ("0",)),
            "0" not in ended.left,
            ended.outcome == EQUIVALENT,
            ended.outcome != UNDECIDED,
            ended.trials / (configurations * at_most),
        ]
    return list(100 * counts / sweeps)


def main() -> None:
    """Run the simulation and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=10_000)
    parser.add_argument("--at-least", type=int, default=3)
    parser.add_argument("--at-most", type=int, default=20)
    parser.add_argument("--configurations", type=int, nargs="+", default=[3, 5, 8, 12])
    given = parser.parse_args()
    print(f"{given.sweeps:,} sweeps a row, {given.at_least} to {given.at_most} seeds, numpy {np.__version__}\n")
    print("| setting | configurations | wrong winner | best dropped | equivalent | settled | trials spent |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, setting in SETTINGS.items():
        for configurations in given.configurations:
            found = percentages(setting, configurations, given.at_least, given.at_most, given.sweeps)
            print(f"| {name} | {configurations} | " + " | ".join(f"{value:.1f}%" for value in found) + " |", flush=True)


if __name__ == "__main__":
    main()
