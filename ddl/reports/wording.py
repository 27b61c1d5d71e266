"""Numbers, durations and sizes as text, the same in every renderer."""

import math

from ddl.reports.statistics import Estimate

ABSENT = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


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


def duration(seconds: float) -> str:
    """Two units at most: "48 s", "9 min 30 s", "2 h 5 min", "3 d 4 h"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        whole = round(seconds / part)
        if whole * part >= size:
            rest = whole * part % size // part
            return f"{whole * part // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.0f} s"


def size(count_of_bytes: float) -> str:
    """Decimal units: "512 B", "1.5 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count_of_bytes < 1000:
            return f"{count_of_bytes:.0f} B" if unit == "B" else f"{count_of_bytes:.1f} {unit}"
        count_of_bytes /= 1000
    return f"{count_of_bytes:.1f} TB"


def count(number_of: int, noun: str) -> str:
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"
