"""Passes trials' reports from Ray Tune's thread to the driver's thread, and packs the other way."""

import queue
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from ddl import ray_private
from ddl.sweeps.pack import Pack
from ddl.sweeps.ray_schedulers import CHANGED
from ddl.sweeps.ray_trainable import GAVE_UP
from ddl.sweeps.time_limits import read_hang
from ddl.trial_report import RESTARTED, TrialReport, ended_report, stopped_report


class Handover:
    """Two queues between Tune's thread and the driver's thread, which iterates over the reports.

    `give` blocks until the driver has recorded the reports, that is until it asks for the next ones: a worker continues only
    after its reports are durable. `take` makes the driver's thread advance the packs, which read and write that thread's objects.
    """

    def __init__(self, packs: Iterable[Pack]) -> None:
        self._packs = iter(packs)
        self._taken: queue.Queue[Pack | None] = queue.Queue()
        self._reports: queue.Queue[Sequence[TrialReport] | _PackRequest | None] = queue.Queue()
        self._stopped = threading.Event()
        self._recorded = False
        self._error: BaseException | None = None

    @property
    def stopped(self) -> bool:
        """True once the driver has stopped the sweep."""
        return self._stopped.is_set()

    def give(self, reports: Sequence[TrialReport]) -> bool:
        """Pass reports to the driver and wait until they are recorded. False if the sweep was stopped before that."""
        self._recorded = False
        if not self.stopped:
            self._reports.put(reports)
            self._reports.join()
        return self._recorded

    def take(self) -> Pack | None:
        """The next pack; None if there are no more."""
        if self.stopped:
            return None
        self._reports.put(_PackRequest())
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

    def __iter__(self) -> Iterator[Sequence[TrialReport]]:
        while (item := self._reports.get()) is not None:
            try:
                if isinstance(item, _PackRequest):
                    self._taken.put(next(self._packs, None))
                else:
                    yield item
                    self._recorded = True
            finally:
                self._reports.task_done()
        self._reports.task_done()
        if self._error is not None:
            raise self._error


class NotRecordedError(Exception):
    """Reports of a trial were not recorded because the sweep was stopped."""


class _PackRequest:
    """Tune has room for another pack."""


class _TuneHook:
    """Base of the objects that Tune calls. Tune pickles them for its own restore, which ddl does not use."""

    def __init__(self, handover: Handover) -> None:
        super().__init__()
        self._handover = handover

    def __getstate__(self) -> dict[str, Any]:
        return {}


class HandoverSearcher(_TuneHook, Searcher):
    """Gives Tune one pack at a time, when it has room for it."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept any metric and space: they are not used."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial's configuration for Tune."""
        pack = self._handover.take()
        if pack is None:
            return Searcher.FINISHED
        return {"trial_id": pack.first.trial_id, "pack": pack, CHANGED: dict(pack.first.changed)}

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
    """Turns Tune's events into reports. `retries` is the number of times that a trial may restart after its process died."""

    def __init__(self, handover: Handover, retries: int) -> None:
        super().__init__(handover)
        self._retries, self._deaths = retries, Counter[str]()
        self._ended: set[str] = set()
        self._last: dict[str, TrialReport] = {}  # of the trials that have not ended
        self._gave_up: set[str] = set()  # Tune's trials whose processes have ended themselves, because a trial hung

    def on_trial_result(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any) -> None:
        """Pass on the reports in a result."""
        # Tune repeats the last result of a trial that the scheduler stops.
        reports = [report for report in result.get("reports", ()) if report.trial_id not in self._ended]
        for report in reports:
            if report.kind == "ended":
                self._ended.add(report.trial_id)
                self._last.pop(report.trial_id, None)
            else:
                self._last[report.trial_id] = report
        if result.get(GAVE_UP):
            self._gave_up.add(trial.trial_id)
            if self._ended.issuperset(_members(trial)):
                trial.max_failures = 0  # nothing is left to restart
        if reports and not self._handover.give(reports):
            raise NotRecordedError  # ends Tune: a worker that continued would write a checkpoint with what is not recorded

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Let a pack of several trials restart as often as its trials may in total: `on_trial_recover` counts."""
        if "pack" in trial.config and len(trial.config["pack"].members) > 1:
            trial.max_failures = -1

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Choose the trials of a pack that starts again: those that have not ended, one after the other if the process died.

        Any of a stack's trials may have caused that, so it counts for none. In a pack whose trials run one after the other it counts for
        the one that ran; that one comes last, so that it cannot prevent the others from ending. If the process ended itself because a
        trial hung, that trial has ended and it counts for none.
        """
        self._fail_hung(trial)
        if "pack" not in trial.config:
            return
        started: Pack = trial.config["pack"]
        trial.config["pack"] = pack = started.without(self._ended)
        if len(started.members) == 1:  # Tune counts the deaths of a single trial
            return
        gave_up = trial.trial_id in self._gave_up
        self._gave_up.discard(trial.trial_id)
        last = [self._last[member.trial_id] for member in pack.members if member.trial_id in self._last]
        died = pack.members and not gave_up and not any(report.kind in RESTARTED for report in last)
        if died and pack.stacked:
            pack = replace(pack, stacked=False)
        elif died:
            running = last[0].trial_id if last else pack.first.trial_id
            self._deaths[running] += 1
            if self._deaths[running] > self._retries:
                self._fail([running], _died(trial))
            pack = pack.with_last(running).without(self._ended)
        trial.config["pack"] = pack
        if len(pack.members) == 1:
            trial.max_failures = trial.run_metadata.num_failures + self._retries - self._deaths[pack.first.trial_id]

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Report a trial that the scheduler stopped."""
        self._give_ends(stopped_report(last) for last in self._not_ended(_members(trial)))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Report the trials of a process that died too often."""
        self._fail_hung(trial)
        self._fail(_members(trial), _died(trial))

    def _fail_hung(self, trial: TuneTrial) -> None:
        """Report a trial whose process ended because the trial held Python's global lock, if the driver sees the process's files."""
        for member in trial.config["pack"].members if "pack" in trial.config else ():
            if reason := read_hang(member.folder):
                self._gave_up.add(trial.trial_id)
                self._fail([member.trial_id], reason)

    def _fail(self, trial_ids: Sequence[str], reason: str) -> None:
        if ray_private.dead_process():  # all trials end with Ray, and none of them has failed
            return
        self._give_ends(ended_report(last, "failed", reason) for last in self._not_ended(trial_ids))

    def _not_ended(self, trial_ids: Sequence[str]) -> list[TrialReport]:
        """The last reports of those trials that have not reported their end."""
        return [self._last.pop(each, TrialReport(each, "ended")) for each in trial_ids if each not in self._ended]

    def _give_ends(self, ends: Iterable[TrialReport]) -> None:
        if reports := list(ends):
            self._ended.update(report.trial_id for report in reports)
            self._handover.give(reports)


def _members(trial: TuneTrial) -> list[str]:
    """The ids of the trials in the pack that Tune's trial runs."""
    pack = trial.config.get("pack")
    return [member.trial_id for member in pack.members] if pack else [trial_name(trial)]


def _died(trial: TuneTrial) -> str:
    lines = str(trial.get_error() or "").strip().splitlines()
    return f"its process died and no retries are left ({lines[-1] if lines else 'no message'})"


def trial_name(trial: TuneTrial) -> str:
    """The id of the first trial of the pack that Tune's trial runs."""
    return trial.config["trial_id"]
