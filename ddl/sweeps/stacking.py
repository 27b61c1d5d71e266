"""Stacking: which trials of a sweep are trained as one model, and how many at a time. The choice is measured."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ddl.schema import Launch
from ddl.sweeps.allocation import Allocation
from ddl.sweeps.executors import Executor
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe import with_precision
from ddl.sweeps.space import Trial
from ddl.timing_probe import TimingProbe

SIZES = (4, 16, 64)
"""Numbers of trials in a stack that are timed, in addition to the one that gives every place one stack."""

GAIN = 1.1
"""A stack is used if it trains its trials at least this many times as fast as one by one: timings vary by a few percent."""

MEMORY_SPARE = 0.1
"""Fraction of a GPU's free memory that no plan uses: the few steps of a timing probe may miss a trial's peak."""


@dataclass(frozen=True)
class StackTiming:
    """The timing of `members` trials with this `key` as one model. `alone_s` and `stacked_s` are the seconds of a process per trial.

    `configuration` is that of the first member.
    """

    key: str
    configuration: str
    members: int
    alone_s: float
    stacked_s: float

    @property
    def gain(self) -> float:
        """The factor by which the trials are trained faster than one by one."""
        return self.alone_s / self.stacked_s if self.stacked_s else math.inf


@dataclass(frozen=True)
class Stacking:
    """The stacks of a sweep: by `Task.stack_key`, the timing of the fastest size.

    `timings` are all timings, `failures` the sizes that failed, `not_timed` one configuration of each key that could be stacked but
    was not timed, because that would have taken too long.
    """

    precision: str = ""
    stacks: Mapping[str, StackTiming] = field(default_factory=dict)
    timings: Sequence[StackTiming] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    not_timed: Sequence[str] = ()

    def split(self, trials: Sequence[Trial]) -> tuple[list[list[Trial]], list[Trial]]:
        """(stacks, trials by themselves). Stacks of the same key have about equal sizes; one of a single trial is a trial by itself."""
        stacks: list[list[Trial]] = []
        alone: list[Trial] = []
        for key, group in _by_key(trials, self.precision).items():
            for pack in _split(group, self.stacks[key].members) if key in self.stacks else [[trial] for trial in group]:
                if len(pack) > 1:
                    stacks.append(pack)
                else:
                    alone += pack
        return stacks, alone

    def outcomes(self) -> list[tuple[StackTiming, bool]]:
        """(timing, used) of each key: the size that is used, or the one that was too slow."""
        used = list(self.stacks.values())
        better = {timing.key for timing in used}
        return [(timing, timing in used) for timing in self.timings if timing in used or timing.key not in better]

    def record(self) -> list[dict[str, Any]]:
        """`outcomes` as the ledger stores them."""
        fields = ("configuration", "members", "alone_s", "stacked_s")
        return [{name: getattr(timing, name) for name in fields} | {"used": used} for timing, used in self.outcomes()]

    def seconds(self, stack: Sequence[Trial]) -> float:
        """Expected seconds of a stack."""
        return len(stack) * self.stacks[_key(stack[0], self.precision)].stacked_s


def choose_stacking(
    trials: Sequence[Trial],
    probes: Mapping[str, TimingProbe],
    allocation: Allocation,
    executor: Executor,
    launch: Launch,
    precision: str,
    out: Path,
    most_s: float,
) -> Stacking:
    """Time stacks of `trials`, from the smallest size on while larger ones are faster, and keep the fastest of each key.

    `probes` are the timings of single trials by configuration. No size is larger than gives each of the allocation's places one
    stack. No stack is timed after `most_s` seconds, or if that would take longer without any gain by stacking, unless
    `launch.stack` asks for a number. Sweeps whose trials are compared while they train are not stacked.
    """
    if launch.stack == "off" or not independent(launch):
        return Stacking(precision)
    groups = {key: group for key, group in _by_key(trials, precision).items() if len(group) > 1}
    total = sum(map(len, groups.values()))
    stacks: dict[str, StackTiming] = {}
    timings: list[StackTiming] = []
    failures: dict[str, str] = {}
    not_timed: list[str] = []
    began = time.monotonic()
    for key, group in groups.items():
        known: list[TimingProbe] = [probes[trial.configuration] for trial in group if trial.configuration in probes]
        limit = min(len(group), math.ceil(total / allocation.concurrent), launch.stack if launch.stack != "auto" else len(group))
        if limit == 1:
            continue
        if not known and launch.stack != "auto":
            alone = _time_stack(group[:1], allocation, executor, precision, out)
            known = [] if isinstance(alone, str) else [alone]
        if not known:
            not_timed.append(group[0].configuration)
            continue
        training_s, probe_s = (statistics.fmean(getattr(probe, name) for probe in known) for name in ("training_s", "probe_s"))
        best = 0.0
        for size in [*(size for size in SIZES if size < limit), limit]:
            expected_s = size * probe_s / max(best, 1.0)
            if launch.stack == "auto" and time.monotonic() - began + expected_s > most_s:
                if not best:
                    not_timed.append(group[0].configuration)
                break
            members = _split(group, size)[0]
            found = _time_stack(members, allocation, executor, precision, out)
            if isinstance(found, str):
                failures[f"{members[0].configuration}, {len(members)} trials as one model"] = found
                break
            # Both with the stack's start: the process of the first single trial also imported and read what later ones find in memory.
            start_s, stacked_s = found.start_s / len(members), found.trial_s / len(members)
            timing = StackTiming(key, members[0].configuration, len(members), training_s + start_s, stacked_s)
            timings.append(timing)
            if timing.gain < max(best, GAIN):
                break
            best, stacks[key] = timing.gain, timing
    return Stacking(precision, stacks, timings, failures, not_timed)


def independent(launch: Launch) -> bool:
    """True if a pack may have several trials: no trial has several workers, and none depends on the results of others."""
    return launch.search.algorithm == "random" and launch.resources.workers[1] == 1


def _time_stack(members: Sequence[Trial], allocation: Allocation, executor: Executor, precision: str, out: Path) -> TimingProbe | str:
    """The timing probe of a stack while stacks run in all places, or the reason why there is none."""
    resolved = [replace(trial, task=with_precision(trial.task, precision)) for trial in members]
    pack = Pack(tuple(allocation.assignment(trial, out, checkpoint_every_s=math.inf) for trial in resolved), stacked=True)
    timings, *_ = executor.probe([pack] * allocation.concurrent, [precision], 0.0)
    if not timings.probes:
        return "; ".join(timings.failures.values())
    probe = timings.probes[0]
    if probe.memory_bytes > (1 - MEMORY_SPARE) * probe.free_bytes * min(allocation.gpus, 1):
        return "it does not fit into the GPU's memory"
    return probe


def _split(group: Sequence[Trial], size: int) -> list[list[Trial]]:
    """The trials in packs of about equal sizes, at most `size`."""
    count = math.ceil(len(group) / size)
    return [list(group[number::count]) for number in range(count)]


def _by_key(trials: Sequence[Trial], precision: str) -> dict[str, list[Trial]]:
    """The trials that could be trained as one model, by their key. A trial that cannot be in a stack has a key of its own."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(_key(trial, precision) or f"trial {trial.trial_id}", []).append(trial)
    return groups


def _key(trial: Trial, precision: str) -> str:
    return with_precision(trial.task, precision).stack_key() or ""
