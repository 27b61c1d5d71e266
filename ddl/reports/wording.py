"""Numbers, durations, sizes and the names of what was measured as text, the same in every renderer."""

import math
import re
from collections.abc import Sequence

from ddl.reports.statistics import Estimate
from ddl.units import duration

ABSENT = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

_SPLITS = {"train": "training", "val": "validation"}
_UNITS = {
    "s": "s", "ms": "ms", "us": "µs", "wh": "Wh", "j": "J", "w": "W", "percent": "%", "celsius": "°C", "bytes": "bytes", "kb": "kB",
    "mb": "MB", "gb": "GB", "mib": "MiB", "gib": "GiB", "mhz": "MHz",
}  # fmt: skip
_INITIALS = {"cpu", "gpu", "sm", "td", "kl", "fid", "psnr", "ssim", "auc", "elbo", "bleu", "mse", "mae"}


def number(value: float | None) -> str:
    """Four decimals for fractions, fewer for larger numbers; a dash for nothing measured, "NaN" for not a number."""
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 1e-3 or size == 0:
        text = f"{value:.4f}"
    else:
        text = f"{value:.2e}"
    return text.replace("-", MINUS)


def interval(estimate: Estimate) -> str:
    """The 95% interval in brackets, "" where there is none."""
    return "" if estimate.low is None else f"[{number(estimate.low)}, {number(estimate.high)}]"


def count(number_of: int, noun: str) -> str:
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"


def metric(name: str) -> str:
    """A metric, measure or cost as a reader says it, its unit in brackets.

    "best val/accuracy" is "best validation accuracy", "latency/p50_ms_batch1" is "latency p50, batch 1 (ms)".
    """
    if name == "elapsed_s":
        return "trained for"
    which, _, plain = name.rpartition(" ") if name.startswith(("best ", "last ")) else ("", "", name)
    room, slash, rest = plain.partition("/")
    if not slash:
        room, rest = "", plain
    before, _, per = rest.partition("_per_")
    words = before.split("_")
    unit = next((word for word in reversed(words[1:]) if word in _UNITS), "")
    if unit:
        words.reverse()
        words.remove(unit)
        words.reverse()
    text = " ".join(word.upper() if word in _INITIALS else word for word in words)
    text = re.sub(r" batch ?(\d+)", r", batch \1", text)
    if room == "time" and unit == "s":
        text += " time"
    elif room not in ("", "time", "device") and "_to_" not in rest:
        text = f"{_SPLITS.get(room, room.replace('_', ' ').replace('/', ' '))} {text}"
    text += f" / {_UNITS.get(per, per.replace('_', ' '))}" if per else ""
    text += f" ({_UNITS[unit]})" if unit else ""
    return f"{which} {text}" if which else text


def milestone(name: str) -> str:
    """`train/episodes_to_solved` is "episodes to solved", `time/solved_s` "time to solved (s)"."""
    return metric(name.replace("time/", "time to ", 1) if name.startswith("time/") else name)


def cost(value: float | None, name: str) -> str:
    """A cost's value: seconds trained as a duration, parameters whole."""
    if value is None:
        return ABSENT
    if name == "elapsed_s":
        return duration(value)
    return f"{value:,.0f}" if name == "parameters" else number(value)


def key(name: str) -> str:
    """A hyperparameter's name: "task.weight_decay" is "weight decay"."""
    return name.removeprefix("task.").replace("_", " ")


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, runs of three and more shortened, with a dash from first to last."""
    runs: list[list[int]] = []
    for number_ in numbers:
        if runs and number_ == runs[-1][-1] + 1:
            runs[-1].append(number_)
        else:
            runs.append([number_])
    return ", ".join(f"{run[0]}\N{EN DASH}{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
