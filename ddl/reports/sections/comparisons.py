"""Paired comparisons of configurations, and the differences that they can show."""

from collections.abc import Iterator
from dataclasses import dataclass

from ddl.reports import narrative, wording
from ddl.reports.model import RunReport
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock, TextBlock
from ddl.reports.sensitivity import find_sensitivity, sensitivity_text
from ddl.reports.statistics import SUPERIORITY_FROM, Comparison

CAPTION = (
    "Paired differences over common seeds: mean and 95% interval (not corrected), and the p-value of the paired t test, Holm-corrected "
    "over the column."
)
SUPERIORITY = (
    f"P: probability that the first configuration has the larger value on a seed, from {SUPERIORITY_FROM} seeds on, with ties as half and "
    "Wilson's 95% interval."
)
RACE_NOTE = "The values decided how many seeds there are, so these p-values are too small. The decisions of the race are not affected."


@dataclass(frozen=True)
class ComparisonCell:
    """One comparison by one measure as text."""

    comparison: Comparison
    p: str
    superiority: str
    reading: str


@dataclass(frozen=True)
class ComparisonRow:
    """One pair with a cell per measure of the run. `seeds` is the number of common seeds, and of how many if trials failed or diverged."""

    first: str
    second: str
    seeds: str
    cells: tuple[ComparisonCell, ...]


@dataclass(frozen=True)
class ComparisonTable:
    """One row per pair. `superiority` is True if any cell has one. `sensitivity` says which differences the seeds can show, or is ""."""

    caption: str
    rows: tuple[ComparisonRow, ...]
    superiority: bool
    sensitivity: str


def comparison_table(run: RunReport) -> ComparisonTable | None:
    """The comparisons of the run, None if it has only one configuration."""
    pairs = run.comparisons[run.primary]
    if not pairs:
        return None
    by_name = {c.name: c for c in run.configurations}
    rows = []
    for i, pair in enumerate(pairs):
        two = by_name[pair.first], by_name[pair.second]
        planned = max(sum(c.statuses.values()) for c in two)
        seeds = f"{pair.difference.n} of {planned}" if any(c.lost for c in two) else str(pair.difference.n)
        rows.append(
            ComparisonRow(
                pair.first, pair.second, seeds, tuple(_cell(run.comparisons[m][i], run.margins.get(m, 0.0)) for m in run.measures)
            )
        )
    tested = [pair for pair in pairs if not {pair.first, pair.second} & run.dropped.keys()]
    found = find_sensitivity(tested, {c.name: c.values[run.primary] for c in run.configurations}, run.margins.get(run.primary, 0.0))
    superiority = any(cell.comparison.superiority is not None for row in rows for cell in row.cells)
    notes = [CAPTION, SUPERIORITY if superiority else "", run.comparisons_note, RACE_NOTE if run.record.get("race") else ""]
    return ComparisonTable(" ".join(filter(None, notes)), tuple(rows), superiority, sensitivity_text(found) if found else "")


def _cell(c: Comparison, margin: float) -> ComparisonCell:
    p = wording.ABSENT if c.p_holm is None else "< 0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}"
    s = c.superiority
    superiority = wording.ABSENT if s is None else f"{s.mean:.2f} [{s.low:.2f}, {s.high:.2f}]"
    return ComparisonCell(c, p, superiority, narrative.reading(c, margin))


def _texts(cell: ComparisonCell, superiority: bool) -> list[str]:
    probability = [cell.superiority] if superiority else []
    return [wording.estimate_text(cell.comparison.difference), cell.p, *probability, cell.reading]


def _wandb(run: RunReport) -> Iterator[Block]:
    table = comparison_table(run)
    if table is None:
        return
    yield HeadingBlock("Paired comparisons")
    parts = [", 95% interval", ", p", *([", P(first > second)"] if table.superiority else []), ", reading"]
    columns = [f"{measure}{part}" for measure in run.measures for part in parts]
    rows = []
    for row in table.rows:
        texts = [text for cell in row.cells for text in _texts(cell, table.superiority)]
        rows.append([f"{row.first} {wording.MINUS} {row.second}", row.seeds, *texts])
    yield TableBlock(["Difference", "n", *columns], rows, table.caption)
    if table.sensitivity:
        yield TextBlock(table.sensitivity, caption=True)


SECTION = Section("comparisons.html.j2", build=lambda run, budget: comparison_table(run), wandb=_wandb)
