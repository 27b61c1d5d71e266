"""The definition of a report section, and the neutral blocks that a section yields for a W&B Report."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ddl.reports.embedding import EmbeddingBudget
from ddl.reports.model import RunReport


@dataclass(frozen=True)
class HeadingBlock:
    """A heading of a section, or of a part of one if `level` is 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class TextBlock:
    """A paragraph: `lead` in bold, then `text`. A `caption` is followed by the note on the data; a `notice` is set as a quotation."""

    text: str
    lead: str = ""
    caption: bool = False
    notice: bool = False


@dataclass(frozen=True)
class TableBlock:
    """A table with its caption, which is followed by the note on the data."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str


@dataclass(frozen=True)
class LinePlotsBlock:
    """One line plot per metric: mean over the seeds of each configuration. `axes` maps a metric to its horizontal axis."""

    axes: dict[str, str]


@dataclass(frozen=True)
class MediaBlock:
    """The figures of all trials that have one of `names`."""

    names: Sequence[str]


Block = HeadingBlock | TextBlock | TableBlock | LinePlotsBlock | MediaBlock


@dataclass(frozen=True)
class Section:
    """One section of the report on a run.

    `build` makes the plain data that the template gets as `data`, or returns None to leave the section out. It may embed files of the
    run as long as the budget lasts. `template` and `script` are files in `templates/`. `wandb` yields the blocks of the W&B Report.
    """

    template: str
    build: Callable[[RunReport, EmbeddingBudget], Any]
    wandb: Callable[[RunReport], Iterator[Block]] | None = None
    script: str = ""
