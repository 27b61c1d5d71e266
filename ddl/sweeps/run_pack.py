"""Runs a pack: a worker trains its trials one after the other, or as one model."""

import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby

from ddl.devices import Device
from ddl.durable import CannotWrite
from ddl.precision_setup import prepare_process
from ddl.progress import Diverged, StackStep, StackSteps, State
from ddl.storage.trials import TrialStore
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.isolation import Isolation
from ddl.sweeps.pack import Pack
from ddl.sweeps.task_steps import stack_steps
from ddl.sweeps.time_limits import TimeLimits
from ddl.sweeps.trial_output import trial_output
from ddl.sweeps.trial_run import TrialRun, cannot_write_report, list_not_finite, open_store
from ddl.sweeps.worker import RECORD_NOW, GiveUp, trial_reports
from ddl.tasks.task import precision_of
from ddl.telemetry.device_sampler import DeviceSampler
from ddl.trial_errors import TRIAL_ERRORS, error_place
from ddl.trial_report import RESTARTED, TrialReport, stopped_report

Restored = tuple[Assignment, TrialStore, tuple[int, State] | None]
"""A trial with its open store and its newest checkpoint."""

COLLECT_S = 0.5
"""Seconds for which reports of short trials are collected, unless a checkpoint is due."""


RECORDED_AT_ONCE = ("started", "cannot_write", *RESTARTED)
"""Kinds of reports that are not collected: if the process dies, the driver has to know which trial ran, and why it cannot continue."""


def run_pack(
    pack: Pack,
    device: Device,
    preemption_requested: Callable[[], bool] = lambda: False,
    stopped: Callable[[], Set[str]] = frozenset,
    give_up: GiveUp = None,
) -> Iterator[list[TrialReport]]:
    """Run all trials of a pack to their ends (`worker.run_trial`), and yield what they report at the same time as one list.

    `stopped` returns the trials that the scheduler has stopped. It is asked after each list of a pack of several trials.
    Trials continue from their newest checkpoints. Those of a stack that were interrupted at different steps are trained in groups, one
    after the other. If a stack raises, its trials continue one by one, so only those that raise it alone too end as failed. That is also
    so if it exceeds a time limit: a step of a stack is a sign of life of all its trials, and it may take as long as its trials may
    in turn. If a stack hangs outside Python, `give_up` is called without reports.
    """
    if len(pack.members) == 1:
        stopped = frozenset  # Tune stops the pack
    if not pack.stacked or len(pack.members) == 1:
        yield from _run_in_turn(pack.members, device, preemption_requested, stopped, give_up)
        return
    with ExitStack() as stores:
        restored: list[Restored] = []
        for member in pack.members:
            store = stores.enter_context(open_store(member, device))
            restored.append((member, store, store.newest()))
        restored.sort(key=_step)
        for _, group in groupby(restored, _step):
            for reports in _Stack(list(group), device, preemption_requested, stopped, give_up).reports():
                yield reports
                if reports[-1].kind in RESTARTED:
                    return


def _step(restored: Restored) -> int:
    """The step from which the trial continues."""
    return restored[2][0] if restored[2] else 0


def _run_in_turn(
    members: Sequence[Assignment],
    device: Device,
    preemption_requested: Callable[[], bool],
    stopped: Callable[[], Set[str]],
    give_up: GiveUp,
) -> Iterator[list[TrialReport]]:
    """Run trials one after the other. Reports of several are collected for a moment: each message to the driver takes milliseconds."""
    waiting: list[TrialReport] = []
    waits_s = COLLECT_S if len(members) > 1 else 0.0
    since = time.monotonic()
    for member in members:
        reports = trial_reports(member, device, preemption_requested, give_up)
        for report in reports:
            if report is not RECORD_NOW:
                waiting.append(report)
            if waiting and (report is RECORD_NOW or report.kind in RECORDED_AT_ONCE or time.monotonic() - since >= waits_s):
                yield waiting
                since, last = time.monotonic(), waiting[-1]
                if last.kind in RESTARTED:
                    return
                stop = _measured(waiting) and last.kind != "ended" and member.trial_id in stopped()
                waiting = [stopped_report(last)] if stop else []
                if stop:
                    reports.close()
                    break
    if waiting:
        yield waiting


def _measured(reports: Sequence[TrialReport]) -> bool:
    """True if the scheduler may have stopped trials because of these reports."""
    return any(report.kind == "measured" and report.metrics for report in reports)


class _Stack:
    """Trials that are trained as one model, from the same step to their ends. `_running` are those that have not ended."""

    def __init__(
        self,
        restored: Sequence[Restored],
        device: Device,
        preemption_requested: Callable[[], bool],
        stopped: Callable[[], Set[str]],
        give_up: GiveUp,
    ):
        """The rest as in `run_pack`."""
        first, self._first_step = restored[0][0], _step(restored[0])
        self._sampler = DeviceSampler(device, first.cpus, min(first.gpus, 1) / len(restored))
        usage, size = self._sampler.usage, len(restored)
        trials = [TrialRun(assignment, device, saved, store, usage, size) for assignment, store, saved in restored]
        self._running, self._device = dict(enumerate(trials)), device
        self._preemption_requested, self._stopped, self._give_up = preemption_requested, stopped, give_up
        self._isolation = Isolation()
        trial_s = first.trial_timeout_s and first.trial_timeout_s * size
        can_end = give_up is not None
        self._limits = TimeLimits(trial_s, first.stall_timeout_s, self._end_process if can_end else None, sys.stderr if can_end else None)

    def reports(self) -> Iterator[list[TrialReport]]:
        """Train to the end and yield the reports."""
        with self._isolation:
            yield from self._isolated_reports()

    def _isolated_reports(self) -> Iterator[list[TrialReport]]:
        yield [report for trial in self._running.values() for report in trial.start()]
        first = self._running[0].assignment
        tasks = [trial.assignment.task for trial in self._running.values()]
        prepare_process(precision_of(tasks[0]))
        reason = ""
        with self._sampler, self._limits, trial_output(f"{first.trial_id}, ...", first.log) as output:
            try:
                states = [trial.resume_state for trial in self._running.values()]
                for reports in self._take_steps(stack_steps(tasks, self._device, self._limits, states, self._first_step, output)):
                    yield reports
                    if reports[-1].kind in RESTARTED:
                        return
                for trial in self._running.values():
                    trial.store_last()
            except CannotWrite as error:
                yield [cannot_write_report(trial.report, error) for trial in self._running.values()]
                return
            except TRIAL_ERRORS as error:  # each trial that raises it alone too ends as failed
                output.run(traceback.print_exc)
                reason = error_place(error)
        if reason:
            self._isolation.restore()
            yield from self._continue_alone(reason)
            return
        ends = [(trial, list(trial.end("finished", ""))) for trial in self._running.values()]
        left_behind = self._isolation.restore()
        if ends:
            yield [report for trial, reports in ends for report in trial.finish(reports, left_behind)]

    def _take_steps(self, steps: StackSteps) -> Iterator[list[TrialReport]]:
        """Take all steps, and yield the reports of each. The last one is of the kind `preempted` if the process is."""
        leaving: list[int] | None = None
        while (step := _send(steps, leaving)) is not None:
            reports: list[TrialReport] = []
            leaving = []
            for index, outcome in step.items():
                trial = self._running[index]
                if isinstance(outcome, Diverged):
                    reason = str(outcome)
                else:
                    reports += trial.take(outcome)
                    if reason := list_not_finite(outcome.metrics):
                        leaving.append(index)
                if reason:
                    reports += trial.finish(trial.end("diverged", reason))
                    del self._running[index]
            if reports:
                yield reports
            stopped = self._stopped() if _measured(reports) else ()
            if behind := [index for index, trial in self._running.items() if trial.assignment.trial_id in stopped]:
                leaving += behind
                yield [report for index in behind for report in self._end_stopped(index)]
            if not self._running:
                return
            preempted = self._preemption_requested()
            if preempted or any(trial.checkpoint_due() for trial in self._running.values()):
                for trial in self._running.values():
                    trial.store_checkpoint()
            if preempted:
                yield [report for trial in self._running.values() for report in trial.finish([trial.preempted()])]
                return

    def _end_process(self, reason: str) -> None:
        assert self._give_up is not None
        self._give_up([])  # its trials start again, one by one

    def _end_stopped(self, index: int) -> Iterator[TrialReport]:
        trial = self._running.pop(index)
        yield from trial.finish([stopped_report(trial.report)])

    def _continue_alone(self, reason: str) -> Iterator[list[TrialReport]]:
        """Train the trials that have not ended one after the other, from their newest checkpoints."""
        left = [trial.close() for trial in self._running.values()]
        self._running.clear()  # frees the stack's memory
        for assignment, report in left:
            yield [replace(report, kind="measured", metadata={"stacked": None, "not_stacked": reason})]
            for reports in _run_in_turn([assignment], self._device, self._preemption_requested, self._stopped, self._give_up):
                yield reports
                if reports[-1].kind in RESTARTED:
                    return


def _send(steps: StackSteps, leaving: Collection[int] | None) -> StackStep | None:
    """The next step, which the members `leaving` do not take; None after the last one."""
    try:
        return steps.send(leaving)
    except StopIteration:
        return None
