"""Suggestions for mistyped names."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean ...?`, or an empty text if no known name is similar."""
    known = list(known)
    last_parts = {full.rpartition(".")[2]: full for full in known}
    near = (
        [full for full in known if full.endswith(f".{name}")]
        or difflib.get_close_matches(name, known, 1)
        or [last_parts[part] for part in difflib.get_close_matches(name, last_parts, 1)]
    )
    return f" Did you mean {near[0]}?" if near else ""


def suggest_name(name: str, known: Iterable[str]) -> str:
    """The similar name, or the first five known ones."""
    known = list(known)
    return did_you_mean(name, known) or f" Known names: {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}."
