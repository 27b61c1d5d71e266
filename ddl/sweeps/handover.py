"""Reports from a thread that trains to the one that consumes them."""

import queue
import threading
from collections.abc import Iterator

from ddl.sweeps.worker import Report


class Handover:
    """Reports on their way from Tune's thread to the consumer's.

    `give` returns when the report has been recorded, which is when the consumer asks for the next: so nothing a worker
    goes on from is unrecorded.
    """

    def __init__(self) -> None:
        self._reports: queue.Queue[Report | None] = queue.Queue()
        self._stopped = threading.Event()
        self._error: BaseException | None = None

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def give(self, report: Report) -> None:
        if not self.stopped:
            self._reports.put(report)
            self._reports.join()

    def finish(self, error: BaseException | None) -> None:
        self._error = error
        self._reports.put(None)

    def stop(self) -> None:
        """Nothing is taken from now on, and Tune is told to end at its next look."""
        self._stopped.set()
        while not self._reports.empty():
            self._reports.get()
            self._reports.task_done()

    def __iter__(self) -> Iterator[Report]:
        while (report := self._reports.get()) is not None:
            try:
                yield report
            finally:
                self._reports.task_done()
        self._reports.task_done()
        if self._error is not None:
            raise self._error
