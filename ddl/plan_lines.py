"""The plan on the terminal: its trials, the resources of each, the data, the precision, the stacks and the expected duration."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ddl.sweeps.plan import Plan, report_duration
from ddl.sweeps.space import Trial
from ddl.units import count, duration, size

PLAN_ROWS = 30


def show_plan(
    console: Console,
    plan: Plan,
    trials: Sequence[Trial],
    configurations: int,
    reported: int,
    notes: Sequence[str] = (),
    may_end_early: bool = False,
    timed_task: bool = True,
) -> None:
    """Print the plan: a table of trials, then `notes`, resources, data, precision, expected duration and disk use.

    `configurations`: how many could be timed. `reported`: the number of trials in the last report. `may_end_early`: the expected duration is
    the longest one. `timed_task` as `Task.timed`.
    """
    untimed = not timed_task
    table = aligned_table("trial", "configuration", "seed", right=() if untimed else ("steps", "steps/s", "other", "expected"))
    for trial in trials[:PLAN_ROWS]:
        probe = plan.probes.get(trial.configuration)
        columns = () if untimed else ("", "", "", "")
        if probe:
            expected_s = plan.seconds(trial)
            steps_per_s = f"{1 / probe.step_s:.1f}" if probe.step_s else ""
            steps = round(probe.total_steps * plan.left(trial))
            columns = (str(steps), steps_per_s, duration(expected_s - steps * probe.step_s), duration(expected_s))
        table.add_row(trial.trial_id, Text(trial.configuration), str(trial.task.seed), *columns)
    if trials:
        console.print(table)
    if not untimed:
        console.print(
            "other: start, compilation, evaluations; in the first trial of a configuration also the timing of inference", soft_wrap=True
        )
    if len(trials) > PLAN_ROWS:
        console.print(f"... and {count(len(trials) - PLAN_ROWS, 'more trial')}")
    for note in notes:
        console.print(Text(note), soft_wrap=True)
    _print_resources(console, plan)
    _print_data(console, plan)
    _print_choices(console, plan)
    if untimed:
        console.print("expected: unknown until the first trial has ended")
        return
    timed = f"timed {len(plan.probes)} of {count(configurations, 'configuration')}"
    disk = f"{size(plan.disk_bytes)} of {size(plan.free_bytes)} free" if plan.disk_bytes else "unknown"
    report_s = report_duration(reported)
    most = "at most " if may_end_early else ""
    of_it = "" if math.isnan(plan.eta_s) else f" from now, {duration(report_s)} of it for the report"
    console.print(f"expected: {most}{duration(plan.eta_s + report_s)}{of_it} ({timed}); disk: {disk}", soft_wrap=True)


def aligned_table(*left: str, right: Sequence[str]) -> Table:
    """An empty table with these left- and right-aligned columns."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="bold")
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def _print_resources(console: Console, plan: Plan) -> None:
    """Print what each trial gets of the machine or cluster, and the parts of it that are not used."""
    allocation, capacity = plan.allocation, plan.capacity
    minimum = f"{allocation.min_workers} to " if allocation.min_workers < allocation.num_workers else ""
    workers = f"{minimum}{allocation.num_workers} workers ({allocation.strategy}), each with " if allocation.num_workers > 1 else ""
    gpus = f", {allocation.gpus:g} of {capacity.gpus} GPUs" if capacity.gpus else ""
    nodes = f" on {len(capacity.nodes)} nodes" if len(capacity.nodes) > 1 else ""
    console.print(
        f"each trial: {workers}{allocation.cpus} of {capacity.cpus} CPU cores{gpus}{nodes}; trials at a time: {allocation.concurrent}"
    )
    idle = capacity.idle(allocation.cpus, allocation.gpus)
    if idle.nodes:
        console.print(
            f"idle: {count(len(idle.nodes), 'node')} that cannot hold a trial ({count(idle.cpus, 'CPU core')}, {count(idle.gpus, 'GPU')})"
        )
    for problem in capacity.unusable_gpus:
        console.print(Text(f"GPU not used: {problem}"), soft_wrap=True)


def _print_data(console: Console, plan: Plan) -> None:
    """Print the data sets that the timing probes have read."""
    for line in _data_lines([probe.metadata for probe in plan.probes.values()]):
        console.print(Text(line), soft_wrap=True)


def _print_choices(console: Console, plan: Plan) -> None:
    """Print the precision, the stacks, and what could not be timed."""
    if plan.precision:
        console.print(f"precision: {plan.precision} (the fastest that agrees with fp32)")
    for stack, used in plan.stacking.outcomes():
        times = f"take {duration(stack.stacked_s)} each instead of {duration(stack.alone_s)}, {stack.gain:.1f} times as fast"
        line = f"{'stacked' if used else 'not stacked'}: {stack.members} trials as one model ({stack.configuration}, ...) {times}"
        console.print(Text(line), soft_wrap=True)
    not_timed = plan.stacking.not_timed
    for reason in dict.fromkeys(not_timed.values()):
        names = ", ".join(name for name in not_timed if not_timed[name] == reason)
        console.print(Text(f"not stacked: {names} ({reason})"), soft_wrap=True)
    for name, reason in plan.failures.items():
        console.print(Text(f"not used: {name or 'timing probe'} ({reason})"), soft_wrap=True)


def _data_lines(trials: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each data set in the metadata of trials, with a warning if it is a sample or a fallback.

    The number of examples is a range if it differs between trials.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for data in filter(None, (metadata.get("data") for metadata in trials)):
        fallback = f". A FALLBACK, NOT {data['fallback_for']}" if data.get("fallback_for") else ""
        warning = fallback or ("" if data.get("complete") else ". ONLY A SAMPLE of the official data")
        groups.setdefault((data["name"], data["source"], warning), []).append(data)
    lines = []
    for (name, source, warning), data in groups.items():
        splits = [f"{_range(data, 'train')} train", f"{_range(data, 'val')} validation"]
        if any("test" in each for each in data):
            splits = [", ".join(splits), f"{_range(data, 'test')} test"]
        lines.append(f"data: {name}, {source}, {' and '.join(splits)} examples{warning}")
    return lines


def _range(metadata: Sequence[Mapping[str, Any]], key: str) -> str:
    """`72 to 95` for different values, one number for equal ones, `?` for none."""
    values = sorted({data[key] for data in metadata if key in data})
    return " to ".join(str(value) for value in dict.fromkeys([values[0], values[-1]])) if values else "?"
