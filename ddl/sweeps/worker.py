"""Runs a trial in a worker process, from its newest checkpoint to its end. Both executors use it."""

import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ddl.devices import Device, lost_another_rank
from ddl.durable import CannotWrite
from ddl.precision_setup import prepare_process, ran_eagerly
from ddl.progress import Diverged
from ddl.sweeps.assignment import Assignment, larger_fraction
from ddl.sweeps.isolation import Isolation
from ddl.sweeps.task_steps import trial_steps
from ddl.sweeps.time_limits import TimeLimits, hang_log
from ddl.sweeps.trial_output import trial_output
from ddl.sweeps.trial_run import TrialRun, cannot_write_report, list_not_finite, open_store
from ddl.tasks.function import FunctionTask
from ddl.tasks.task import Task, precision_of
from ddl.telemetry.device_sampler import DeviceSampler
from ddl.trial_errors import TRIAL_ERRORS, error_place, out_of_memory
from ddl.trial_report import RESTARTED, TrialReport, ended_report

RECORD_NOW = None
"""See `trial_reports`."""

GiveUp = Callable[[Sequence[TrialReport]], None] | None
"""Records the last reports of trials that hang outside Python, and ends the process. None if it cannot be ended."""


def run_trial(
    assignment: Assignment,
    device: Device,
    preemption_requested: Callable[[], bool] = lambda: False,
    give_up: GiveUp = None,
) -> Iterator[TrialReport]:
    """Run a trial from its newest checkpoint to its end, yielding reports. The last one has the kind `ended`.

    Once `preemption_requested()` is true, the trial finishes the current step, stores a checkpoint and yields a last report of
    the kind `preempted`. A trial that runs out of memory with a fraction of a GPU yields a last report of the kind `out_of_memory`.

    If several processes train the trial, each runs this function with its own `device`; only the reports of rank 0 count.
    A measurement is yielded, and so recorded, before the checkpoint that contains it is stored. A resume therefore may measure
    a step again, but never skips one. A trial that raises ends as `failed` and does not affect other trials. Raises if another
    rank of the same trial died, since that is not an error of the trial.

    The process is seeded before the task's code begins and restored afterwards (`Isolation`). A trial that exceeds a time limit ends as
    `failed`; if it hangs outside Python, `give_up` is called in another thread with its last report.
    """
    for report in trial_reports(assignment, device, preemption_requested, give_up):
        if report is not RECORD_NOW:
            yield report


def trial_reports(
    assignment: Assignment,
    device: Device,
    preemption_requested: Callable[[], bool],
    give_up: GiveUp = None,
) -> Generator[TrialReport | None, None, None]:
    """`run_trial` for a caller that records several reports at once.

    Yields `RECORD_NOW` where all reports so far have to be recorded before the next one is asked for: a checkpoint then contains them.
    """
    with Isolation() as isolation, open_store(assignment, device) as store:
        prepare_process(precision_of(assignment.task))
        saved = device.broadcast(store.newest() if device.rank == 0 else None)
        sampler = DeviceSampler(device, assignment.cpus, min(assignment.gpus, 1))
        trial = TrialRun(assignment, device, saved, store, sampler.usage)

        yield from trial.start()
        for report in _reports(trial, sampler, preemption_requested, give_up):
            if report is not RECORD_NOW and (report.kind in RESTARTED or report.kind == "ended"):
                yield from trial.finish([report], isolation.restore())
            else:
                yield report


@contextmanager
def _limits(trial: TrialRun, give_up: GiveUp) -> Iterator[TimeLimits]:
    """The trial's time limits."""
    trial_s, stall_s = trial.assignment.trial_timeout_s, trial.assignment.stall_timeout_s
    if give_up is None or not (trial_s or stall_s):
        with TimeLimits(trial_s, stall_s) as limits:
            yield limits
        return

    def hangs(reason: str) -> None:
        give_up([ended_report(trial.report, "failed", reason)])

    with hang_log(trial.assignment.folder) as log, TimeLimits(trial_s, stall_s, hangs, log) as limits:
        yield limits


def _reports(
    trial: TrialRun, sampler: DeviceSampler, preemption_requested: Callable[[], bool], give_up: GiveUp
) -> Iterator[TrialReport | None]:
    """Train the trial to its end and yield the reports after `started`."""
    assignment, device = trial.assignment, trial.device
    with sampler, _limits(trial, give_up) as limits, trial_output(assignment.trial_id, assignment.log) as output:
        try:
            for progress in trial_steps(assignment.task, device, limits, trial.resume_state, trial.report.step, output):
                yield from trial.take(progress)
                if not_finite := list_not_finite(progress.metrics):
                    raise Diverged(not_finite)
                due, preempted = device.any_rank(device.rank == 0 and trial.checkpoint_due(), preemption_requested())
                store_measured = assignment.keep_measured > 0 and bool(progress.metrics)
                if store_measured and progress.state is None:
                    raise TypeError("pbt continues trials from states, but the measurement has none. Yield ddl.Progress(..., state=...).")
                if store_measured or due or preempted:
                    yield RECORD_NOW
                    trial.store_checkpoint()
                if store_measured:
                    yield replace(trial.report, kind="stored", metrics=dict(progress.metrics))
                if preempted:
                    yield trial.preempted()
                    return
            eagerly = "its model was compiled too often, so parts of it ran eagerly" if ran_eagerly() else ""
            status, reason = "finished", eagerly or _wrong_length(assignment.task, trial.report)
            yield RECORD_NOW
            trial.store_last()
        except Diverged as error:
            status, reason = "diverged", str(error)
        except CannotWrite as error:
            yield cannot_write_report(trial.report, error)
            return
        except TRIAL_ERRORS as error:
            if device.world_size > 1 and lost_another_rank(error):
                raise
            output.run(traceback.print_exc)
            status, reason = "failed", error_place(error)
            if out_of_memory(error) and 0 < assignment.gpus < 1 and assignment.may_grow:
                larger = f"out of memory with gpus={assignment.gpus:g}, starts again with gpus={larger_fraction(assignment.gpus):g}"
                yield replace(trial.report, kind="out_of_memory", reason=larger)
                return
    yield from trial.end(status, reason)


def _wrong_length(task: Task, last: TrialReport) -> str:
    """A remark if a function ended at another step than it was said to: early stopping and the time that is left depend on it."""
    if not isinstance(task, FunctionTask) or last.total_steps in (0, last.step):
        return ""
    return f"it ended at step {last.step}, not {last.total_steps}: correct measurements or total_steps"
