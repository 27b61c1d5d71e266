"""Paired comparisons of configurations."""

from collections.abc import Iterator

from ddl.reports import wording
from ddl.reports.model import RunReport
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock
from ddl.reports.statistics import Comparison

CAPTION = (
    "Paired differences over common seeds: mean and 95% interval (not corrected), and the p-value of the paired t test, Holm-corrected "
    "over the column."
)


RACE_NOTE = "The values decided how many seeds there are, so these p-values are too small. The decisions of the race are not affected."


def _caption(run: RunReport) -> str | None:
    notes = [CAPTION, run.comparisons_note, RACE_NOTE if run.record.get("race") else ""]
    return " ".join(filter(None, notes)) if run.comparisons[run.primary] else None


def _cells(c: Comparison) -> tuple[str, str, str]:
    if c.p_holm is None:
        return wording.estimate_text(c.difference), wording.ABSENT, f"not tested: {c.untested}"
    p = "< 0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}"
    return wording.estimate_text(c.difference), p, "significant" if c.significant else "difference not significant"


def _wandb(run: RunReport) -> Iterator[Block]:
    caption = _caption(run)
    if caption is not None:
        yield HeadingBlock("Paired comparisons")
        columns = [f"{measure}{part}" for measure in run.measures for part in (", 95% interval", ", p", ", reading")]
        rows = [
            [
                f"{pair.first} {wording.MINUS} {pair.second}",
                pair.difference.n,
                *(cell for measure in run.measures for cell in _cells(run.comparisons[measure][row])),
            ]
            for row, pair in enumerate(run.comparisons[run.primary])
        ]
        yield TableBlock(["Difference", "n", *columns], rows, caption)


SECTION = Section("comparisons.html.j2", build=lambda run, budget: _caption(run), wandb=_wandb)
