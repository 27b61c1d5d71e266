"""Durations, sizes and counts as text, the same in the terminal and in every report."""

import math


def duration(seconds: float) -> str:
    """Seconds as text in at most two units: "30 ms", "4.2 s", "48 s", "9 min 30 s", "2 h 5 min", "3 d 4 h"; "unknown" for NaN and infinity."""
    if not math.isfinite(seconds):
        return "unknown"
    if 0 < seconds < 0.095:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        whole = round(seconds / part)
        if whole * part >= length:
            rest = whole * part % length // part
            return f"{whole * part // length} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """A number of bytes in decimal units: "512 B", "1.5 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def count(n: int, noun: str) -> str:
    """The number with its noun, such as "1 seed" or "3 seeds"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
