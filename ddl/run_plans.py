"""The plans of one or several runs: made by measuring the first steps of each configuration, and printed."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ddl.config import ConfigError
from ddl.machine_use import other_runs
from ddl.plan_lines import show_plan
from ddl.sweeps.allocation import Allocation, allocate, reallocate
from ddl.sweeps.choose_plan import Planned, choose_plan, make_plan, resumed_plan, with_stacks
from ddl.sweeps.executors import Executor, Prober
from ddl.sweeps.known_timings import KnownTimings
from ddl.sweeps.plan import Plan
from ddl.sweeps.prepare import PreparedRun
from ddl.terminal import show_activity
from ddl.units import duration


def make_plans(
    console: Console, runs: Sequence[PreparedRun], executor: Executor, out: Path, scratch: Path, recall: bool = True
) -> list[Plan]:
    """Make and print a plan for each run. Raises ConfigError if the executor's capacity is too small, or if no trial can start.

    `scratch` is the temporary folder of this process. `recall` as in `KnownTimings`. Sweeps of the same task get the same precision, so that a trial that is in two sweeps is trained once.
    """
    plans: list[Plan] = []
    if runs[0].address is None:
        for line in other_runs(scratch):
            console.print(line, soft_wrap=True)
    precisions: dict[type, str] = {}
    trials = sum(run.size for run in runs)
    for run in runs:
        allocation, notes = _allocation(run, executor, trials)
        timed = run.timed
        task_class = type(timed[0].task)
        precision = run.precision if run.resumed else precisions.get(task_class)
        activity = show_activity(console, f"{run.name}: timing the first steps of each configuration")
        with activity if task_class.timed else contextlib.nullcontext():
            plan, age = _plan(run, allocation, executor, recall, precision, out)
        for line in _changes(run, plan):
            console.print(line, soft_wrap=True)
        precisions.setdefault(task_class, plan.precision)
        plans.append(plan)
        if len(runs) > 1:
            console.print(run.name, style="bold")
        added = [run.source.described] if run.source and run.to_add else []
        shown = run.trials or (timed if task_class.timed else [])
        configurations, reported = len({trial.configuration for trial in timed}), run.size + run.earlier
        lines = [*added, *run.notes(), *notes, *age]
        show_plan(console, plan, shown, configurations, reported, lines, run.may_end_early, task_class.timed)
    return plans


def _allocation(run: PreparedRun, executor: Executor, trials: int) -> tuple[Allocation, list[str]]:
    """Resources of each trial of the run, and notes about them. `trials` is the number of trials in the queue. Raises ConfigError."""
    problems: list[str] = []
    notes: list[str] = []
    inline, capacity = run.executor == "inline", executor.capacity()
    if run.allocation:
        allocation = reallocate(run.allocation, run.launch, capacity, trials, inline, problems)
    else:
        allocation = allocate(run.launch, capacity, trials, inline, problems)
    if not problems and allocation.gpus and (unusable := executor.gpu_problems()):
        if run.launch.resources.gpus == "auto":  # Ray may place a trial on any GPU of the cluster
            allocation = allocate(run.launch, capacity.without_gpus(), trials, inline, problems)
            notes = [f"on CPUs only: {problem} To use the other GPUs, start Ray on that node with --num-gpus=0." for problem in unusable]
        else:
            problems = [
                f"{problem} Start Ray on that node with --num-gpus=0, or set resources.gpus=0 to train on CPUs." for problem in unusable
            ]
    if problems:
        raise ConfigError(problems)
    return allocation, notes


def _plan(
    run: PreparedRun, allocation: Allocation, executor: Executor, recall: bool, precision: str | None, out: Path
) -> tuple[Plan, list[str]]:
    """The plan of a run, and a note about the age of its timings if an earlier plan took them."""
    known = KnownTimings(executor, recall) if run.address is None else None
    prober: Prober = known or executor
    planned = Planned(run.trials, run.timed[len(run.trials) :], run.to_add)
    if run.executor == "inline":
        plan = make_plan(planned, allocation, prober, precision, out)
    elif run.allocation and run.allocation.size == allocation.size:
        plan = resumed_plan(planned, allocation, prober, run.launch, precision, out)
    else:
        plan = choose_plan(planned, allocation, prober, run.launch, precision, out)
    if not run.resumed:
        plan.check()
    plan = with_stacks(plan, planned, prober, run.launch, out)
    if run.done:
        plan = replace(plan, done=run.done)
        plan = replace(plan, eta_s=plan.eta(run.trials, run.to_add))
    if known is None or known.oldest_s is None:
        return plan, []
    return plan, [f"timings of an earlier plan, {duration(known.oldest_s)} ago; --plan takes them again"]


def _changes(run: PreparedRun, plan: Plan) -> list[str]:
    """Lines that say how the plan of a resumed run differs from the recorded one."""
    effect = "The remaining trials may differ from the earlier ones in rounding."
    lines = []
    if run.allocation and run.allocation.size != plan.allocation.size:
        lines.append(
            f"this machine cannot give a trial its planned resources ({run.allocation.size}); using {plan.allocation.size} instead. {effect}"
        )
    if run.precision and run.precision != plan.precision:
        lines.append(
            f"this machine does not support the planned precision {run.precision}; training in {plan.precision or 'fp32'} instead. {effect}"
        )
    return lines
