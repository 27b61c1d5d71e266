"""What someone who mistyped a name may have meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean ...?`, or nothing where no known name is near."""
    known = list(known)
    near = [full for full in known if full.endswith(f".{name}")] or difflib.get_close_matches(name, known, 1)
    return f" Did you mean {near[0]}?" if near else ""


def did_you_mean_or_there_are(name: str, known: Iterable[str]) -> str:
    """The near one, or the first few of all there are."""
    known = list(known)
    return did_you_mean(name, known) or f" There are: {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}."
