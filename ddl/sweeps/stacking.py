"""Stacking: which trials of a sweep are trained as one model, and how many at a time. `choose_stacking` measures it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ddl.schema import Launch
from ddl.sweeps.space import Trial
from ddl.tasks.task import with_precision


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
    was not timed, with the reason.
    """

    precision: str = ""
    stacks: Mapping[str, StackTiming] = field(default_factory=dict)
    timings: Sequence[StackTiming] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    not_timed: Mapping[str, str] = field(default_factory=dict)

    def split(self, trials: Sequence[Trial]) -> tuple[list[list[Trial]], list[Trial]]:
        """(stacks, trials by themselves). Stacks of the same key have about equal sizes; one of a single trial is a trial by itself."""
        stacks: list[list[Trial]] = []
        alone: list[Trial] = []
        for key, group in by_key(trials, self.precision).items():
            for pack in split(group, self.stacks[key].members) if key in self.stacks else [[trial] for trial in group]:
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


def independent(launch: Launch) -> bool:
    """True if a pack may have several trials: no trial has several workers, and none depends on the results of others."""
    return launch.search.algorithm == "random" and launch.resources.workers[1] == 1


def split(group: Sequence[Trial], size: int) -> list[list[Trial]]:
    """The trials in packs of about equal sizes, at most `size`."""
    count = math.ceil(len(group) / size)
    return [list(group[number::count]) for number in range(count)]


def by_key(trials: Sequence[Trial], precision: str) -> dict[str, list[Trial]]:
    """The trials that could be trained as one model, by their key. A trial that cannot be in a stack has a key of its own."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(_key(trial, precision) or f"trial {trial.trial_id}", []).append(trial)
    return groups


def _key(trial: Trial, precision: str) -> str:
    return with_precision(trial.task, precision).stack_key() or ""
