"""Packs: what an executor places. A pack is one or several trials that a worker trains, one after the other or as one model."""

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Self

from ddl.sweeps.assignment import Assignment


@dataclass(frozen=True)
class Pack:
    """The assignments of one worker, with equal resources. If `stacked`, they have an equal `Task.stack_key` and are one model."""

    members: tuple[Assignment, ...]
    stacked: bool = False
    longest_step_s: float = float("inf")  # a timing probe ends after two longer steps in a row

    @property
    def first(self) -> Assignment:
        """The first member, whose resources are those of the pack."""
        return self.members[0]

    def without(self, trial_ids: Set[str]) -> Self:
        """The pack without these trials."""
        return replace(self, members=tuple(member for member in self.members if member.trial_id not in trial_ids))

    def with_last(self, trial_id: str) -> Self:
        """The pack with this trial as its last."""
        return replace(self, members=tuple(sorted(self.members, key=lambda member: member.trial_id == trial_id)))
