"""The texts that trials wrote, the same text of every configuration next to each other."""

from ddl.reports.artefacts import find_texts
from ddl.reports.embedding import EmbeddedGroup, EmbeddingBudget, embed_texts
from ddl.reports.model import RunReport
from ddl.reports.sections.section import Section


def _build(run: RunReport, budget: EmbeddingBudget) -> list[EmbeddedGroup] | None:
    return embed_texts(find_texts(run.folder, run.trials), budget) or None


SECTION = Section("samples.html.j2", _build)
