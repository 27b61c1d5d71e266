"""The choice of the trials that are trained as one model: stacks are timed, and the fastest are kept."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ddl.schema import Launch
from ddl.sweeps.allocation import Allocation
from ddl.sweeps.executors import Prober
from ddl.sweeps.pack import Pack
from ddl.sweeps.space import Trial
from ddl.sweeps.stacking import Stacking, StackTiming, by_key, independent, split
from ddl.tasks.task import Task, with_precision
from ddl.timings import TimingProbe, Timings

SIZES = (4, 16, 64)
"""Numbers of trials in a stack that are timed, in addition to the largest one that gives every place a stack."""

GAIN = 1.1
"""A stack is used if it trains its trials at least this many times as fast as one by one: timings vary by a few percent."""

SLOW_S, SLOWER = 0.5, 3
"""A stack is not timed any further after two steps in a row of more than SLOW_S seconds that take SLOWER times as long as the steps one by one."""

LONG_STEP_S = 0.02
"""Steps of this many seconds are long. A stack saves the time in which operations are started, which is little of a long step."""

TAKES_LONG = "timing a stack would take too long for this sweep; stack=N times it anyway"
NO_GAIN = "a stack of trials with shorter steps was not faster; stack=N times it"

MEMORY_SPARE = 0.1
"""Fraction of a GPU's free memory that no plan uses: the few steps of a timing probe may miss a trial's peak."""


def choose_stacking(
    trials: Sequence[Trial],
    probes: Mapping[str, TimingProbe],
    allocation: Allocation,
    executor: Prober,
    launch: Launch,
    precision: str,
    out: Path,
    most_s: float,
) -> Stacking:
    """Time stacks of `trials`, from the smallest size on while larger ones are faster, and keep the fastest of each key.

    `probes` are the timings of single trials by configuration. No size is larger than gives each of the allocation's places one
    stack. No stack is timed after `most_s` seconds of timing, or if that would take longer, unless `launch.stack` asks for a number; so the keys
    that take longest come first. Those with long steps come last, the shortest first: after one that is not faster, or that fails, no longer
    ones of the same task are timed."""
    if launch.stack == "off" or not independent(launch):
        return Stacking(precision)
    time_packs = partial(_time_packs, allocation=allocation, executor=executor, precision=precision, out=out)
    waiting, not_timed = _candidates(by_key(trials, precision), probes, allocation.concurrent, launch.stack, time_packs)
    stacks: dict[str, StackTiming] = {}
    timings: list[StackTiming] = []
    failures: dict[str, str] = {}
    left_s = most_s if launch.stack == "auto" else math.inf
    without_gain: set[type[Task]] = set()
    while waiting:
        least = min((timing.gain for timing in timings), default=1.0)
        not_timed |= {each.configuration: NO_GAIN for each in waiting if each.long and each.task in without_gain and not each.best}
        waiting = [each for each in waiting if not (each.long and each.task in without_gain)]
        batch, waiting = waiting[: allocation.concurrent], waiting[allocation.concurrent :]
        not_timed |= {each.configuration: TAKES_LONG for each in batch if each.expected_s(least) > left_s and not each.best}
        batch = [each for each in batch if each.expected_s(least) <= left_s]
        if not batch:
            continue
        packs = [split(each.group, each.sizes[0])[0] for each in batch]
        longest_s = [max(SLOW_S, SLOWER * len(pack) * each.step_s) for each, pack in zip(batch, packs, strict=True)]
        results, took_s = time_packs(packs, longest_s)
        left_s -= took_s
        for candidate, members, found in zip(batch, packs, results, strict=True):
            if isinstance(found, str):
                failures[f"{members[0].configuration}, {len(members)} trials as one model"] = found
                continue
            # Both with the stack's start: the process of the first single trial also imported and read what later ones find in memory.
            start_s, stacked_s = found.start_s / len(members), found.trial_s / len(members)
            timing = StackTiming(candidate.key, members[0].configuration, len(members), candidate.training_s + start_s, stacked_s)
            timings.append(timing)
            if timing.gain >= max(candidate.best, GAIN):
                stacks[candidate.key] = timing
                if candidate.sizes[1:]:  # after the smallest sizes of the others
                    waiting.append(replace(candidate, sizes=candidate.sizes[1:], best=timing.gain))
        if launch.stack == "auto":
            without_gain |= {each.task for each in batch if each.long and each.key not in stacks}
    return Stacking(precision, stacks, timings, failures, not_timed)


@dataclass(frozen=True)
class _Candidate:
    """Trials that may be trained as one model: what one takes alone, the sizes that are not timed yet, and the gain of the last size.

    `probe_s` are the seconds of the timing probe of a single trial. A stack waits for `first_start_s` once.
    """

    key: str
    group: Sequence[Trial]
    training_s: float
    step_s: float
    probe_s: float
    first_start_s: float
    sizes: Sequence[int]
    best: float = 0.0

    @property
    def configuration(self) -> str:
        return self.group[0].configuration

    @property
    def task(self) -> type[Task]:
        return type(self.group[0].task)

    @property
    def long(self) -> bool:
        return self.step_s >= LONG_STEP_S

    @property
    def order(self) -> tuple[bool, float]:
        """Place in the order of timing, first the longest training, last long steps."""
        return self.long, self.step_s if self.long else -self.training_s * len(self.group)

    def expected_s(self, gain: float) -> float:
        """Expected seconds of the timing of the next size, for trials that gain this much by stacking if that is not known yet."""
        return self.first_start_s + self.sizes[0] * self.probe_s / max(self.best or gain, 1.0)


def _candidates(
    groups_by_key: Mapping[str, Sequence[Trial]],
    probes: Mapping[str, TimingProbe],
    places: int,
    stack: int | str,
    time_packs: Callable[[Sequence[Sequence[Trial]], Sequence[float]], tuple[list[TimingProbe | str], float]],
) -> tuple[list[_Candidate], dict[str, str]]:
    """(what `choose_stacking` times, in this order; `Stacking.not_timed` of the keys that have no probe).

    `stack` is `launch.stack`, and `time_packs` is `_time_packs` with all but its first two arguments.
    """
    groups = {key: group for key, group in groups_by_key.items() if len(group) > 1}
    total = sum(map(len, groups.values()))
    candidates: list[_Candidate] = []
    not_timed: dict[str, str] = {}
    for key, group in groups.items():
        limit = min(len(group), math.ceil(total / places))
        if isinstance(stack, int):
            limit = min(limit, stack)
        if limit == 1:
            continue
        known: list[TimingProbe] = [probes[trial.configuration] for trial in group if trial.configuration in probes]
        if not known and stack != "auto":
            (alone,), _ = time_packs([group[:1]], [math.inf])
            known = [] if isinstance(alone, str) else [alone]
        if not known:
            not_timed[group[0].configuration] = TAKES_LONG
            continue
        smallest, *larger = SIZES
        first = [smallest] if 2 * smallest < limit else []  # else it would gain about as much as the largest
        candidates.append(
            _Candidate(
                key,
                group,
                training_s=statistics.fmean(probe.training_s for probe in known),
                step_s=statistics.fmean(probe.step_s for probe in known),
                probe_s=statistics.fmean(probe.probe_s for probe in known),
                first_start_s=statistics.fmean(probe.first_start_s for probe in known),
                sizes=[*first, *(size for size in larger if size < limit), limit],
            )
        )
    return sorted(candidates, key=lambda each: each.order), not_timed


def _time_packs(
    packs: Sequence[Sequence[Trial]],
    longest_step_s: Sequence[float],
    allocation: Allocation,
    executor: Prober,
    precision: str,
    out: Path,
) -> tuple[list[TimingProbe | str], float]:
    """(the timing probe of each pack, or the reason why there is none; the seconds that it took).

    At most one pack for each place; repeated ones keep the others busy. `longest_step_s` is `Pack.longest_step_s` of each.
    """
    timed: list[Pack] = []
    for trials, longest_s in zip(packs, longest_step_s, strict=True):
        resolved = [replace(trial, task=with_precision(trial.task, precision)) for trial in trials]
        members = tuple(allocation.assignment(trial, out, checkpoint_every_s=math.inf) for trial in resolved)
        timed.append(Pack(members, len(members) > 1, longest_s))
    repeated = [timed[number % len(timed)] for number in range(allocation.concurrent)]
    results = executor.probe(repeated, [precision], 0.0)[: len(timed)]
    return [_fitting(timings, allocation) for timings in results], max(timings.took_s for timings in results)


def _fitting(timings: Timings, allocation: Allocation) -> TimingProbe | str:
    """The timing probe of a pack that fits into the memory of a GPU, or the reason why there is none."""
    if not timings.probes:
        return "; ".join(timings.failures.values())
    probe = timings.probes[0]
    if probe.memory_bytes > (1 - MEMORY_SPARE) * probe.free_bytes * min(allocation.gpus, 1):
        return "it does not fit into the GPU's memory"
    return probe
