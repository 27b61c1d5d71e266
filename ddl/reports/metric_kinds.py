"""What a metric's name says of its kind: a cost, a count that curves can be drawn over, a milestone, or a curve."""

import re
from collections.abc import Sequence

COSTS = ("time/", "device/", "latency/")
"""How the names of costs begin; `parameters` and `elapsed_s` are costs too, of which there is one figure a trial."""

COUNTERS = {"train/env_steps": "env steps", "train/episodes": "episodes"}
"""How far a trial is in a unit of its own, recorded beside what it measures: horizontal axes, by what they are called."""

_MILESTONE = re.compile(r"[^/]+/\w+_to_(\w+)")


def is_cost(name: str) -> bool:
    return name.startswith(COSTS)


def milestones(names: Sequence[str]) -> list[str]:
    """The names of what was measured when something came about, of those trials in which it did.

    `train/episodes_to_solved` is one, and so is `time/solved_s`, where `<split>/solved` says whether it has come about (0 or 1).
    """
    events = {name.partition("/")[2] for name in names if not is_cost(name)}
    counted = {name: found[1] for name in names if (found := _MILESTONE.fullmatch(name)) and found[1] in events}
    timed = [name for name in names if name in {f"time/{event}_s" for event in counted.values()}]
    return [*counted, *timed]


def in_order(names: Sequence[str], first: str) -> list[str]:
    """Metric names: `first` and what measures the same quantity, then losses, then the rest; validation before training."""
    quantity = first.split("/", 1)[-1]
    splits = ["val", "test", "train"]

    def place(name: str) -> tuple[bool, bool, str, int, str]:
        split, _, rest = name.partition("/")
        return rest != quantity, rest != "loss", rest, splits.index(split) if split in splits else 1, split

    return sorted(names, key=place)
