"""Numbers, intervals and names of metrics as text, the same in every renderer."""

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
    "mb": "MB", "gb": "GB", "mib": "MiB", "gib": "GiB", "mhz": "MHz", "db": "dB",
}  # fmt: skip
_INITIALS = {"cpu", "gpu", "sm", "td", "kl", "fid", "psnr", "ssim", "auc", "elbo", "bleu", "mse", "rmse", "mae"}


def number(value: float | None) -> str:
    """Five decimals below 0.01, four below 10, two below 100, one below 1,000, else none; a dash for None.

    Scientific notation below 0.001 and from 10^9.
    """
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    size = abs(value)
    if size >= 1e9:
        text = f"{value:.3e}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    elif size >= 100:
        text = f"{value:.1f}"
    elif size >= 10:
        text = f"{value:.2f}"
    elif size >= 0.01 or size == 0:
        text = f"{value:.4f}"
    elif size >= 1e-3:
        text = f"{value:.5f}"
    else:
        text = f"{value:.2e}"
    return text.replace("-", MINUS)


def interval(estimate: Estimate) -> str:
    """The 95% interval in brackets, "" if there is none."""
    return "" if estimate.low is None else f"[{number(estimate.low)}, {number(estimate.high)}]"


def estimate_text(estimate: Estimate) -> str:
    """The mean and its 95% interval."""
    return f"{number(estimate.mean)} {interval(estimate)}".strip()


def metric(name: str) -> str:
    """A metric, measure or cost in words, with its unit in brackets.

    "best val/accuracy" is "best validation accuracy", "latency/p50_ms_batch1" is "latency p50, batch 1 (ms)".
    """
    if name == "elapsed_s":
        return "training time"
    which, _, plain = name.rpartition(" ") if name.startswith(("best ", "last ")) else ("", "", name)
    split, slash, rest = plain.partition("/")
    if not slash:
        split, rest = "", plain
    before, _, per = rest.partition("_per_")
    words = before.split("_")
    unit = next((word for word in reversed(words[1:]) if word in _UNITS), "")
    if unit:
        words.reverse()
        words.remove(unit)
        words.reverse()
    text = " ".join(word.upper() if word in _INITIALS else word for word in words)
    text = re.sub(r" batch ?(\d+)", r", batch \1", text)
    if split == "time" and unit == "s":
        text += " time"
    elif split not in ("", "time", "device") and "_to_" not in rest:
        text = f"{_SPLITS.get(split, split.replace('_', ' ').replace('/', ' '))} {text}"
    text += f" / {_UNITS.get(per, per.replace('_', ' '))}" if per else ""
    text += f" ({_UNITS[unit]})" if unit else ""
    return f"{which} {text}" if which else text


def milestone(name: str) -> str:
    """A milestone in words: `train/episodes_to_solved` is "episodes to solved", `time/solved_s` is "time to solved (s)"."""
    return metric(name.replace("time/", "time to ", 1) if name.startswith("time/") else name)


def cost(value: float | None, name: str) -> str:
    """The value of a cost: training time as a duration, parameters as a whole number."""
    if value is None:
        return ABSENT
    if name == "elapsed_s":
        return duration(value)
    return f"{value:,.0f}" if name == "parameters" else number(value)


def key(name: str) -> str:
    """A hyperparameter in words: "task.weight_decay" is "weight decay"."""
    return name.removeprefix("task.").replace("_", " ")


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as text, with three or more consecutive ones shortened to a range."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{run[0]}\N{EN DASH}{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
