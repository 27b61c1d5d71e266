"""The base class of sources, which add trials to a run while it runs: a search, or a race."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from ddl.sweeps.space import Trial


class TrialSource(ABC):
    """Adds trials to a run, depending on the results of those that have ended."""

    entry: str
    """Name of its entry in the ledger's record of the run."""
    may_end_early: bool
    """True if fewer trials than `left` may be added."""

    @property
    @abstractmethod
    def left(self) -> int:
        """Largest number of trials that may still be added."""

    @property
    @abstractmethod
    def described(self) -> str:
        """The plan's line about the trials that are left."""

    @abstractmethod
    def examples(self) -> list[Trial]:
        """Trials that stand for those to be added, for timing."""

    @abstractmethod
    def groups(self) -> Iterator[list[Trial]]:
        """The trials to add, in groups that may share a pack. Advance it as late as possible: more trials have `ended` by then."""

    @abstractmethod
    def take(self, trial: Trial) -> bool:
        """Take a trial of a group, which then counts as added. False if it is no longer of use, because others have ended since."""

    @abstractmethod
    def ended(self, trial_id: str, value: float | None) -> None:
        """Take the best measurement of a trial that ended; None if it diverged or failed."""

    @abstractmethod
    def news(self) -> list[str]:
        """A sentence for each decision since the last call, to print and to record."""

    @abstractmethod
    def record(self) -> Mapping[str, Any]:
        """JSON-serialisable: with the ledger's rows, all that a resume needs."""
