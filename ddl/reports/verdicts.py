"""Verdicts on the reference values, and on the order of the configurations.

A verdict is an equivalence test: with few seeds, finding no difference is no evidence of equality. A value is therefore "reproduced" only
if the whole 95% interval of our mean is within the stated tolerance of the reference value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ddl.reports.statistics import Comparison, Estimate
from ddl.reports.wording import number
from ddl.units import count

REPRODUCED = "reproduced"
BETTER = "better"
WORSE = "worse"
CANNOT_TELL = "cannot tell"
NOT_COMPARABLE = "not comparable"

NOT_REPRODUCED = (BETTER, WORSE)
"""The verdicts that `--check` reports."""


@dataclass(frozen=True)
class Verdict:
    """One of the verdicts, and the reason."""

    word: str
    why: str


@dataclass(frozen=True)
class Ordering:
    """The order of the configurations compared with the reference's.

    Of the reference's `pairs`, `same` have the same order in this run, `significant` of these significantly. `reversed` have the
    opposite order or are equal; `unmeasured` counts the pairs in which a configuration has no value.
    """

    expected: tuple[str, ...]
    pairs: int
    same: int
    significant: int
    reversed: tuple[Comparison, ...]
    unmeasured: int
    sentence: str


def verdict_on(ours: Estimate, value: float, tolerance: float, obstacles: Sequence[str], gaps: Sequence[str], mode: str = "max") -> Verdict:
    """The verdict on our estimate, given the reference `value` +- `tolerance` (absolute).

    `obstacles` are reasons why the two must not be compared; `gaps` say what is missing in this run. `mode` (max, min) says which side of
    the reference value is better.
    """
    if obstacles:
        return Verdict(NOT_COMPARABLE, "; ".join(obstacles))
    if gaps:
        return Verdict(CANNOT_TELL, "; ".join(gaps))
    if ours.low is None or ours.high is None:
        return Verdict(CANNOT_TELL, f"n = {ours.n}: no interval without at least 2 seeds")
    low, high = value - tolerance, value + tolerance
    allowed = f"{number(value)} ± {tolerance:g}"
    if low <= ours.low and ours.high <= high:
        return Verdict(REPRODUCED, f"the 95% interval is within {allowed}")
    if ours.low > high:
        return Verdict(BETTER if mode == "max" else WORSE, f"higher: the 95% interval is above {allowed}")
    if ours.high < low:
        return Verdict(WORSE if mode == "max" else BETTER, f"lower: the 95% interval is below {allowed}")
    return Verdict(CANNOT_TELL, f"the 95% interval is partly within {allowed}, partly outside")


def compare_order(
    reference: Mapping[str, float], mode: str, ours: Mapping[str, Estimate], comparisons: Sequence[Comparison]
) -> Ordering | None:
    """Compare the order of the configurations with the reference's; None if all reference values are equal.

    `mode` (max, min) says which end comes first. `comparisons` are the tested pairs, in either direction. The order of a pair is that of the
    means over common seeds if there are any, because the test is of these.
    """
    expected = tuple(sorted(reference, key=lambda name: reference[name], reverse=mode == "max"))
    pairs = [(a, b) for a, b in combinations(expected, 2) if reference[a] != reference[b]]
    if not pairs:
        return None
    tested = {frozenset((c.first, c.second)): c for c in comparisons}
    same, significant, unmeasured, swapped = 0, 0, 0, []
    for a, b in pairs:
        mean_a = ours[a].mean if a in ours else None
        mean_b = ours[b].mean if b in ours else None
        if mean_a is None or mean_b is None:
            unmeasured += 1
            continue
        pair = tested[frozenset((a, b))]
        lead = pair.lead_of(a, mode).mean
        if lead is None:
            lead = (mean_a - mean_b) * (1 if mode == "max" else -1)
        if lead > 0:
            same += 1
            significant += pair.significant
        else:
            swapped.append(pair)
    sentence = _sentence(expected, len(pairs), same, significant, swapped, unmeasured)
    return Ordering(expected, len(pairs), same, significant, tuple(swapped), unmeasured, sentence)


def _sentence(expected: Sequence[str], pairs: int, same: int, significant: int, swapped: Sequence[Comparison], unmeasured: int) -> str:
    measured = pairs - unmeasured
    text = f"Reference order, best first: {', '.join(expected)}. "
    if measured == 0:
        return text + "No pair has been measured yet."
    text += f"{same} of {count(measured, 'pair')} {'has' if same == 1 else 'have'} the same order in this run"
    text += f", {significant} of them significantly." if same else "."
    if swapped:
        names = [f"{c.first} / {c.second} ({'' if c.significant else 'not '}significant)" for c in swapped]
        text += f" Reversed: {', '.join(names)}."
    if unmeasured:
        text += f" {count(unmeasured, 'pair')} not measured yet."
    return text
