"""The figures that trials wrote, the same figure of every configuration next to each other."""

from collections.abc import Iterator

from ddl.reports.artefacts import find_images
from ddl.reports.embedding import EmbeddedGroup, EmbeddingBudget, embed_images
from ddl.reports.model import RunReport
from ddl.reports.sections.section import Block, HeadingBlock, MediaBlock, Section, TextBlock


def _build(run: RunReport, budget: EmbeddingBudget) -> list[EmbeddedGroup] | None:
    return embed_images(find_images(run.folder, run.trials), budget) or None


def _wandb(run: RunReport) -> Iterator[Block]:
    names = list(dict.fromkeys(image.name for image in find_images(run.folder, run.trials)))
    if names:
        yield HeadingBlock("Figures")
        yield MediaBlock(names)
        yield TextBlock("Figures written by the trials.", caption=True)


SECTION = Section("figures.html.j2", _build, _wandb)
