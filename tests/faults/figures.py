"""Writes what a campaign found, with its seed, into docs/reliability.md: one section for each campaign."""

import re
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
TITLE = "# Reliability\n\nResults of the campaigns in `tests/faults/`. Each section is written by the command that it names.\n"


def write_figures(name: str, title: str, rows: Sequence[tuple[str, object]], page: Path = PAGE) -> None:
    """Replace or add the section of the campaign `name`, with a table of `rows`."""
    table = "".join(f"| {what} | {value:,} |\n" if isinstance(value, int) else f"| {what} | {value} |\n" for what, value in rows)
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    section = f"{begin}## {title}\n\nCommand: `python -m tests.faults.{name}`\n\n| | |\n|---|--:|\n{table}{end}"
    text = page.read_text(encoding="utf-8") if page.exists() else TITLE
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    text = pattern.sub(lambda _: section, text) if begin in text else f"{text.rstrip()}\n\n{section}"
    page.write_text(text, encoding="utf-8")
