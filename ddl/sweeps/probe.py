"""The timing probe of a pack: its first steps in each precision, in the process that would train it."""

import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from ddl.devices import Device
from ddl.precision_setup import candidates
from ddl.progress import Diverged, Progress, StackStep
from ddl.sweeps.isolation import Isolation
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe_limits import PROBE_STALL_S
from ddl.sweeps.task_steps import stack_steps, trial_steps
from ddl.sweeps.time_limits import TimeLimits
from ddl.tasks.task import Task, precision_of, with_precision
from ddl.timing_probe import time_candidates
from ddl.timings import Timings
from ddl.trial_errors import TRIAL_ERRORS, error_line
from ddl.units import duration

PROBE_STEPS = 8

ADVICE = ". If it needs this time, set stall_timeout_s to more seconds"
"""End of the message about a probe that shows no sign of life."""


def time_pack(
    pack: Pack,
    device: Device,
    precisions: list[str] | None,
    window_s: float,
    ready: Callable[[], None] = lambda: None,
    stall_s: float = PROBE_STALL_S,
    give_up: Callable[[str], None] | None = None,
) -> Timings:
    """Timing probes of the pack's first steps in each precision (None: all candidates for the device), fastest first.

    If none of `precisions` is a candidate for the device, because a run was planned on other hardware, the candidates are timed. A step of
    a stack is a step of all its members. `window_s` and `ready` as in `time_candidates`. A task without a `precision` is timed once, under
    the name "". A pack that raises has no probe, only failures: a failing probe must not fail the whole plan. Nor must one that shows no
    sign of life for `stall_s` seconds; `give_up` as in `TimeLimits`.
    """
    tasks = [member.task for member in pack.members]
    task = tasks[0]
    names, refused = [""], dict[str, str]()
    if precision := precision_of(task):
        names = [precision]
        if precision == "auto":
            names, refused = _possible(precisions, candidates(device, getattr(task, "precision_options", None)))

    def start(name: str) -> Iterator[Progress]:
        with TimeLimits(stall_s=stall_s, give_up=give_up, log=sys.stderr if give_up else None, advice=ADVICE) as limits:
            yield from _while_quick(_run(tasks, name, device, limits), pack.longest_step_s)

    began = time.perf_counter()

    def wait() -> None:
        nonlocal began
        waits = time.perf_counter()
        ready()
        began += time.perf_counter() - waits

    with Isolation():
        try:
            timings = time_candidates(start, names, device, PROBE_STEPS, window_s, wait)
            timings = replace(timings, failures={**refused, **timings.failures})
        except SlowStep as slow:
            timings = Timings([], {names[0]: str(slow)})
        except TRIAL_ERRORS as error:  # the trials themselves will raise it again and end as failed
            traceback.print_exc()
            timings = Timings([], {names[0]: error_line(error)}, traceback.format_exc())
    return replace(timings, took_s=time.perf_counter() - began)


def _possible(precisions: list[str] | None, possible: list[str]) -> tuple[list[str], dict[str, str]]:
    """(those of `precisions` that are possible on the device, or else all that are; the reason for each of the others).

    "" (`fp32`, of a run whose plan could time nothing) is possible everywhere.
    """
    wanted = possible if precisions is None else precisions
    refused = {name: "no candidate on this hardware" for name in wanted if name and name not in possible}
    return [name for name in wanted if name not in refused] or possible, refused


class SlowStep(Exception):
    """Steps take longer than `Pack.longest_step_s`."""


def _while_quick(steps: Iterator[Progress], longest_s: float) -> Iterator[Progress]:
    """The `steps` of a trial. Raises SlowStep after two in a row that took longer than `longest_s`.

    The first does not count, because it loads the data; and another program may hold up any single one.
    """
    began, last_s = math.inf, 0.0
    for progress in steps:
        took = time.perf_counter() - began
        if (quicker := min(took, last_s)) > longest_s:
            raise SlowStep(f"a step takes {duration(quicker)}, much longer than one by one")
        yield progress
        began, last_s = time.perf_counter(), took


def _run(tasks: Sequence[Task], precision: str, device: Device, limits: TimeLimits) -> Iterator[Progress]:
    """The progress of a trial, or of the first member of a stack while it has not diverged, with the evaluations of all members."""
    members = [with_precision(task, precision) for task in tasks]
    if len(members) == 1:
        for progress in trial_steps(members[0], device, limits):
            evaluate = progress.evaluate
            yield replace(progress, evaluate=partial(limits.step, evaluate)) if evaluate else progress
        return
    for step in stack_steps(members, device, limits, [None] * len(members)):
        outcome = step.get(0)
        if outcome is None or isinstance(outcome, Diverged):
            return
        yield replace(outcome, evaluate=partial(limits.step, _evaluations(step))) if outcome.evaluate else outcome


def _evaluations(step: StackStep) -> Callable[[], object]:
    """The evaluations of all members of a stack that have not diverged, one after the other."""
    each = [outcome.evaluate for outcome in step.values() if isinstance(outcome, Progress) and outcome.evaluate]
    return lambda: [evaluate() for evaluate in each]
