"""The kind of a metric by its name: a cost, a counter (a horizontal axis), a milestone, or a curve."""

import re
from collections.abc import Sequence

COSTS = ("time/", "device/", "latency/")
"""Prefixes of costs. `parameters` and `elapsed_s` are costs too, with one value per trial."""

COUNTERS = {"train/env_steps": "env steps", "train/episodes": "episodes"}
"""Metrics that count a trial's progress, and the names of the horizontal axes they give."""

_ACCURACY = re.compile(r"val/(top_?\d+_)?accuracy")
_MILESTONE = re.compile(r"[^/]+/\w+_to_(\w+)")


def is_cost(name: str) -> bool:
    """True for a metric under one of `COSTS`."""
    return name.startswith(COSTS)


def is_accuracy(name: str) -> bool:
    """True for a metric that is the fraction of the validation examples with a correct answer."""
    return _ACCURACY.fullmatch(name) is not None


def milestones(names: Sequence[str]) -> list[str]:
    """The metrics that were measured when an event occurred, so only trials in which it did have them.

    If `<split>/solved` (0 or 1) records the event, these are `train/episodes_to_solved` and `time/solved_s`.
    """
    events = {name.partition("/")[2] for name in names if not is_cost(name)}
    counted = {name: match[1] for name in names if (match := _MILESTONE.fullmatch(name)) and match[1] in events}
    timed = [name for name in names if name in {f"time/{event}_s" for event in counted.values()}]
    return [*counted, *timed]


def in_order(names: Sequence[str], first: str) -> list[str]:
    """Metric names in order: `first` and others of the same quantity, losses, the rest; validation before training."""
    quantity = first.split("/", 1)[-1]
    splits = ["val", "test", "train"]

    def rank(name: str) -> tuple[bool, bool, str, int, str]:
        split, _, rest = name.partition("/")
        return rest != quantity, rest != "loss", rest, splits.index(split) if split in splits else 1, split

    return sorted(names, key=rank)
