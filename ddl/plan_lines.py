"""Lines of a plan on the terminal: the resources of a trial, the data, the precision, and the trials that are trained as one model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from ddl.sweeps.plan import Plan
from ddl.units import count, duration


def print_resources(console: Console, plan: Plan) -> None:
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


def print_data(console: Console, plan: Plan) -> None:
    """Print the data sets that the timing probes have read."""
    for line in _data_lines([probe.metadata for probe in plan.probes.values()]):
        console.print(Text(line), soft_wrap=True)


def print_choices(console: Console, plan: Plan) -> None:
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
