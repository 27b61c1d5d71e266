"""The differences that the comparisons of a run can show with their number of seeds, and the seeds that a smaller one would take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ddl import power
from ddl.reports.statistics import Comparison, paired_differences
from ddl.reports.wording import number
from ddl.units import count


@dataclass(frozen=True)
class Sensitivity:
    """The smallest mean difference that is found with probability `power.POWER`.

    `seeds` is the largest number of common seeds of a tested pair, `fewer` is True if another pair has fewer. `spread` is the standard
    deviation of the paired differences, pooled over the pairs. `needed` is the number of seeds for a difference of `margin`, None if there
    is no margin or it takes too many.
    """

    seeds: int
    fewer: bool
    comparisons: int
    spread: float
    difference: float
    margin: float
    needed: int | None


def find_sensitivity(
    comparisons: Sequence[Comparison], values: Mapping[str, Mapping[int, float]], margin: float = 0.0
) -> Sensitivity | None:
    """The sensitivity of tested `comparisons`. `values` maps configuration -> seed -> value. None without a test or without spread."""
    tested = [c for c in comparisons if c.p is not None]
    spread = power.pooled_spread(paired_differences(values[c.first], values[c.second]) for c in tested)
    if not spread:
        return None
    seeds = max(c.difference.n for c in tested)
    fewer = any(c.difference.n < seeds for c in tested)
    difference = power.detectable_effect(seeds, len(tested)) * spread
    needed = power.seeds_needed(margin / spread, len(tested)) if margin > 0 else None
    return Sensitivity(seeds, fewer, len(tested), spread, difference, margin, needed)


def sensitivity_text(found: Sensitivity) -> str:
    """The sensitivity as sentences, with the reason why a test without the normal distribution is no way out if there are few seeds."""
    family = f" in each of {found.comparisons} comparisons" if found.comparisons > 1 else ""
    most = " in common, the most of any pair," if found.fewer else ""
    text = (
        f"With {count(found.seeds, 'seed')}{most} this run can show differences from {number(found.difference)} on (found with a probability of "
        f"{power.POWER:.0%}{family}; the spread of the paired differences is {number(found.spread)})."
    )
    if found.margin > 0:
        needed = f"more than {power.MOST_SEEDS:,} seeds" if found.needed is None else count(found.needed, "seed")
        text += f" A difference of {found.margin:g} (the margin of this sweep) would take {needed}."
    text += " “Cannot tell” means that smaller differences remain possible, not that there is no difference."
    least = 2.0 ** (1 - found.seeds)
    if least * found.comparisons >= power.ALPHA:
        corrected = f", {min(1.0, least * found.comparisons):.2g} after the correction" if found.comparisons > 1 else ""
        text += (
            f" A test that assumes no distribution would find nothing: with {count(found.seeds, 'seed')} the exact sign-flip test cannot "
            f"have a p-value below {least:.2g}{corrected}."
        )
    return text
