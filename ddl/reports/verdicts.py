"""Ours against the reference: a verdict on each value, and on the order of the configurations.

The verdict is by equivalence: failing to find a difference shows nothing with a few seeds, so "reproduced" is said only
where the whole 95% interval of our mean lies within the stated tolerance of the reference value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ddl.reports.statistics import Comparison, Estimate
from ddl.reports.wording import count, number

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
INCONCLUSIVE = "inconclusive"
NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Verdict:
    """One of the four words, and why."""

    word: str
    why: str


@dataclass(frozen=True)
class Ordering:
    """How many of the reference's `pairs` of configurations stand in the same order here.

    `same` of them do, `significant` of those significantly; `reversed` names those that do not, `unmeasured` counts the
    pairs of which one side has no value here.
    """

    expected: tuple[str, ...]
    pairs: int
    same: int
    significant: int
    reversed: tuple[Comparison, ...]
    unmeasured: int
    sentence: str


def verdict_on(ours: Estimate, value: float, tolerance: float, obstacles: Sequence[str], gaps: Sequence[str]) -> Verdict:
    """Ours against the reference `value` +- `tolerance` (absolute).

    `obstacles` say why the two must not be compared at all; `gaps` what is missing on our side.
    """
    if obstacles:
        return Verdict(NOT_COMPARABLE, "; ".join(obstacles))
    if gaps:
        return Verdict(INCONCLUSIVE, "; ".join(gaps))
    if ours.low is None or ours.high is None:
        return Verdict(INCONCLUSIVE, f"n = {ours.n}: no interval without at least 2 seeds")
    low, high = value - tolerance, value + tolerance
    allowed = f"{number(value)} ± {tolerance:g}"
    if low <= ours.low and ours.high <= high:
        return Verdict(REPRODUCED, f"the 95% interval lies within {allowed}")
    if ours.low > high:
        return Verdict(NOT_REPRODUCED, f"higher: the 95% interval lies above {allowed}")
    if ours.high < low:
        return Verdict(NOT_REPRODUCED, f"lower: the 95% interval lies below {allowed}")
    return Verdict(INCONCLUSIVE, f"the 95% interval is partly within {allowed}, partly outside")


def compare_order(
    reference: Mapping[str, float], mode: str, ours: Mapping[str, Estimate], comparisons: Sequence[Comparison]
) -> Ordering | None:
    """The reference's order against ours; None where it orders nothing. `mode` (max, min) only says which end comes first.

    `comparisons` hold the tested pairs, in either direction.
    """
    expected = tuple(sorted(reference, key=lambda name: reference[name], reverse=mode == "max"))
    pairs = [(a, b) for a, b in combinations(expected, 2) if reference[a] != reference[b]]
    if not pairs:
        return None
    tested = {frozenset((c.first, c.second)): c for c in comparisons}
    same, significant, unmeasured, against = 0, 0, 0, []
    for a, b in pairs:
        mean_a = ours[a].mean if a in ours else None
        mean_b = ours[b].mean if b in ours else None
        if mean_a is None or mean_b is None:
            unmeasured += 1
        elif (mean_a - mean_b) * (reference[a] - reference[b]) > 0:
            same += 1
            significant += tested[frozenset((a, b))].significant
        else:
            against.append(tested[frozenset((a, b))])
    sentence = _sentence(expected, len(pairs), same, significant, against, unmeasured)
    return Ordering(expected, len(pairs), same, significant, tuple(against), unmeasured, sentence)


def _sentence(expected: Sequence[str], pairs: int, same: int, significant: int, against: Sequence[Comparison], unmeasured: int) -> str:
    measured = pairs - unmeasured
    text = f"The reference's order, best first, is {', '.join(expected)}. "
    if measured == 0:
        return text + "No pair of them has been measured here yet."
    text += f"Here {same} of {count(measured, 'pair')} {'stands' if same == 1 else 'stand'} in the same order"
    text += f", {significant} of them significantly." if same else "."
    if against:
        names = [f"{c.first} / {c.second} ({'' if c.significant else 'not '}significant)" for c in against]
        text += f" Not in that order: {', '.join(names)}."
    if unmeasured:
        text += f" {count(unmeasured, 'pair')} not measured yet."
    return text
