"""Runs the code of a task, which may raise anything, return anything and take any time."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ddl.devices import Device
from ddl.progress import Progress, StackSteps, State, recordable
from ddl.sweeps.isolation import seed_process
from ddl.sweeps.time_limits import TimeLimits
from ddl.sweeps.trial_output import Result, TrialOutput
from ddl.tasks.task import Task
from ddl.trial_errors import InterruptSignal


def trial_steps(
    task: Task, device: Device, limits: TimeLimits, resume: State | None = None, step: int = 0, output: TrialOutput | None = None
) -> Iterator[Progress]:
    """`task.run` in a seeded process, from `step` on, which prints to `output`. Raises only Exception, SystemExit and InterruptSignal, and TrialTimeout by `limits`."""
    seed_process(task.seed, step, device)
    steps = _call(partial(task.run, device, resume), limits, output)
    if not isinstance(steps, Iterator):
        raise TypeError(
            f"{type(task).__name__}.run returned {_described(steps)} instead of an iterator. Write it as a generator: yield a Progress "
            "after every step."
        )
    while True:
        try:
            progress = _call(steps.__next__, limits, output)
        except StopIteration:
            return
        if not isinstance(progress, Progress):
            raise TypeError(f"{type(task).__name__}.run yielded {_described(progress)} instead of a Progress.")
        yield recordable(progress)


def stack_steps(
    tasks: Sequence[Task],
    device: Device,
    limits: TimeLimits,
    resume: Sequence[State | None],
    step: int = 0,
    output: TrialOutput | None = None,
) -> StackSteps:
    """Like `trial_steps`, for trials that are trained as one model: `Task.run_stacked`."""
    seed_process(tasks[0].seed, step, device)
    steps = _call(partial(type(tasks[0]).run_stacked, tasks, device, resume), limits, output)
    leaving = None
    while True:
        try:
            outcomes = _call(partial(steps.send, leaving), limits, output)
        except StopIteration:
            return
        leaving = yield {index: recordable(outcome) if isinstance(outcome, Progress) else outcome for index, outcome in outcomes.items()}


def _call(code: Callable[[], Result], limits: TimeLimits, output: TrialOutput | None) -> Result:
    """The result of a task's code. An error that would end more than the trial becomes a RuntimeError with the same traceback."""
    process = os.getpid()
    try:
        return limits.step(code if output is None else partial(output.run, code))
    except (Exception, SystemExit, InterruptSignal):
        raise
    except BaseException as error:  # noqa: BLE001  such as KeyboardInterrupt and GeneratorExit
        raise RuntimeError(f"the task raised {type(error).__name__}").with_traceback(error.__traceback__) from None
    finally:
        if os.getpid() != process:  # a child that the task has forked: it would continue as a second driver or worker
            os._exit(1)


def _described(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
