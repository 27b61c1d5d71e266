"""Between the thread that trains and the one that consumes: reports go one way, what is to be trained next the other."""

import queue
import threading
from collections.abc import Iterable, Iterator

from ddl.sweeps.worker import Assignment
from ddl.trial_report import TrialReport


class Handover:
    """Reports on their way from Tune's thread to the consumer's, and assignments back.

    `give` returns when the report has been recorded, which is when the consumer asks for the next: so nothing a worker
    goes on from is unrecorded. `take` has the consumer's thread advance the assignments, which may read and write what that
    thread owns.
    """

    def __init__(self, assignments: Iterable[Assignment]) -> None:
        self._assignments = iter(assignments)
        self._taken: queue.Queue[Assignment | None] = queue.Queue()
        self._reports: queue.Queue[TrialReport | _Wanted | None] = queue.Queue()
        self._stopped = threading.Event()
        self._error: BaseException | None = None

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def give(self, report: TrialReport) -> None:
        if not self.stopped:
            self._reports.put(report)
            self._reports.join()

    def take(self) -> Assignment | None:
        """The next assignment; None where there is none any more."""
        if self.stopped:
            return None
        self._reports.put(_Wanted())
        return self._taken.get()

    def finish(self, error: BaseException | None) -> None:
        self._error = error
        self._reports.put(None)

    def stop(self) -> None:
        """Nothing is taken from now on, and Tune is told to end at its next look."""
        self._stopped.set()
        self._taken.put(None)
        while not self._reports.empty():
            self._reports.get()
            self._reports.task_done()

    def __iter__(self) -> Iterator[TrialReport]:
        while (came := self._reports.get()) is not None:
            try:
                if isinstance(came, _Wanted):
                    self._taken.put(next(self._assignments, None))
                else:
                    yield came
            finally:
                self._reports.task_done()
        self._reports.task_done()
        if self._error is not None:
            raise self._error


class _Wanted:
    """Tune has room for a trial."""
