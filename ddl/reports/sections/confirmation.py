"""The confirmation of a search: its values, those on fresh seeds, and the shrinkage."""

from collections.abc import Iterator

from ddl.reports import wording
from ddl.reports.confirmations import Confirmed
from ddl.reports.model import RunReport
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock, TextBlock

CAPTION = (
    "Means over seeds and their 95% intervals. Shrinkage: how much worse the confirmed value is than the search value, with Welch's interval "
    "(the seeds differ, so nothing is paired); negative if it is better."
)


def _cells(c: Confirmed) -> tuple[object, ...]:
    estimates = [wording.estimate_text(e) for e in (c.search, c.confirmed, c.shrinkage)]
    return c.name, c.search.n, estimates[0], f"{c.confirmed.n}{c.missing}", *estimates[1:]


def _wandb(run: RunReport) -> Iterator[Block]:
    found = run.confirmation
    if found is not None:
        yield HeadingBlock("Confirmation")
        yield TextBlock(f"{found.lead} {found.reading}".strip())
        columns = ["Configuration", "n", f"{found.measure} in the search", "n", f"{run.metric} on fresh seeds", "shrinkage"]
        yield TableBlock(columns, [_cells(c) for c in found.configurations], CAPTION)


SECTION = Section("confirmation.html.j2", build=lambda run, budget: run.confirmation and CAPTION, wandb=_wandb)
