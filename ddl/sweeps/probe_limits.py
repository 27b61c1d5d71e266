"""Time limits of timing probes, and the second try of those whose process died."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ddl.sweeps.pack import Pack
from ddl.timings import Timings

PROBE_STALL_S = 600.0
"""Seconds that a probe may take for a step, loading data and compilation included, if `stall_timeout_s` is not set."""

MEETING_S = 300
"""Time for probes that begin their timed steps together to wait for each other."""

TimeTogether = Callable[[Sequence[Pack], list[str] | None], tuple[list[Timings], list[int]]]
"""Times packs at once, in these precisions: (the timings of each pack, the packs whose process died)."""


def repeat_if_died(packs: Sequence[Pack], precisions: list[str] | None, time_together: TimeTogether) -> list[Timings]:
    """The timings of all packs.

    A probe whose process dies loses the timings of all precisions, so it is repeated once with fp32 alone. One whose process dies again
    has no timings, like one that raises.
    """
    results, died = time_together(packs, precisions)
    several = precisions is None or len(precisions) > 1
    again = [number for number in died if several and getattr(packs[number].first.task, "precision", "") == "auto"]
    if again:
        repeated, _ = time_together([packs[number] for number in again], ["fp32"])
        for number, timings in zip(again, repeated, strict=True):
            reason = f"{results[number].failures['']}; repeated with fp32 alone"
            results[number] = replace(timings, failures={**timings.failures, "": reason})
    return results
