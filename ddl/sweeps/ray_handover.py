"""Passes trials' reports from Ray Tune's thread to the driver's thread, and assignments the other way."""

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from ddl.sweeps.ray_schedulers import CHANGED
from ddl.sweeps.worker import Assignment
from ddl.trial_report import TrialReport


class Handover:
    """Two queues between Tune's thread and the driver's thread, which iterates over the reports.

    `give` blocks until the driver has recorded the report, that is until it asks for the next one: a worker continues only
    after its report is durable. `take` makes the driver's thread advance the assignments, which read and write that thread's
    objects.
    """

    def __init__(self, assignments: Iterable[Assignment]) -> None:
        self._assignments = iter(assignments)
        self._taken: queue.Queue[Assignment | None] = queue.Queue()
        self._reports: queue.Queue[TrialReport | _AssignmentRequest | None] = queue.Queue()
        self._stopped = threading.Event()
        self._error: BaseException | None = None

    @property
    def stopped(self) -> bool:
        """True once the driver has stopped the sweep."""
        return self._stopped.is_set()

    def give(self, report: TrialReport) -> None:
        """Pass a report to the driver and wait until it is recorded."""
        if not self.stopped:
            self._reports.put(report)
            self._reports.join()

    def take(self) -> Assignment | None:
        """The next assignment; None if there are no more."""
        if self.stopped:
            return None
        self._reports.put(_AssignmentRequest())
        return self._taken.get()

    def finish(self, error: BaseException | None) -> None:
        """End the driver's iteration. It raises `error` if there is one."""
        self._error = error
        self._reports.put(None)

    def stop(self) -> None:
        """Discard all further reports. Tune ends its trials at its next check of `stopped`."""
        self._stopped.set()
        self._taken.put(None)
        while not self._reports.empty():
            self._reports.get()
            self._reports.task_done()

    def __iter__(self) -> Iterator[TrialReport]:
        while (item := self._reports.get()) is not None:
            try:
                if isinstance(item, _AssignmentRequest):
                    self._taken.put(next(self._assignments, None))
                else:
                    yield item
            finally:
                self._reports.task_done()
        self._reports.task_done()
        if self._error is not None:
            raise self._error


class _AssignmentRequest:
    """Tune has room for another trial."""


class _TuneHook:
    """Base of the objects that Tune calls. Tune pickles them for its own restore, which ddl does not use."""

    def __init__(self, handover: Handover) -> None:
        super().__init__()
        self._handover = handover

    def __getstate__(self) -> dict[str, Any]:
        return {}


class HandoverSearcher(_TuneHook, Searcher):
    """Gives Tune one trial at a time, when it has room for it."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept any metric and space: they are not used."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial's configuration for Tune."""
        assignment = self._handover.take()
        if assignment is None:
            return Searcher.FINISHED
        return {"trial_id": assignment.trial_id, "assignment": assignment, CHANGED: dict(assignment.changed)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: `HandoverCallback` reports the end."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: Tune's own restore is not used."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


class HandoverStopper(_TuneHook, tune.Stopper):
    """Ends all of Tune's trials once the driver has stopped the sweep."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """True once the driver has stopped the sweep."""
        return self._handover.stopped


class HandoverCallback(_TuneHook, tune.Callback):
    """Turns Tune's events into reports."""

    def __init__(self, handover: Handover) -> None:
        super().__init__(handover)
        self._ended: set[str] = set()

    def on_trial_result(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any) -> None:
        """Pass on the report in a result."""
        # Tune repeats the last result of a trial that the scheduler stops.
        if "report" in result and trial_name(trial) not in self._ended:
            if result["report"].kind == "ended":
                self._ended.add(trial_name(trial))
            self._handover.give(result["report"])

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Report a trial that the scheduler stopped."""
        report = (trial.last_result or {}).get("report")
        step = f" at step {report.step} of {report.total_steps}" if report else ""
        self._end(trial, "stopped", f"by the scheduler{step}")

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Report a trial whose process died too often."""
        lines = str(trial.get_error() or "").strip().splitlines()
        self._end(trial, "failed", f"its process died and no retries are left ({lines[-1] if lines else 'no message'})")

    def _end(self, trial: TuneTrial, status: str, reason: str) -> None:
        """Report the end of a trial that did not report it itself. Its last report has the device usage until then."""
        name = trial_name(trial)
        if name not in self._ended:
            self._ended.add(name)
            last = (trial.last_result or {}).get("report") or TrialReport(name, "ended")
            self._handover.give(replace(last, kind="ended", status=status, reason=reason, metrics=last.usage))


def trial_name(trial: TuneTrial) -> str:
    """The id of the ddl trial that Tune's trial runs."""
    return trial.config["trial_id"]
