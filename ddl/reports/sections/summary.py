"""The head of the report on a run: the notice on the data, the main finding and the setting."""

from collections.abc import Iterator

from ddl.reports import narrative
from ddl.reports.model import RunReport
from ddl.reports.sections.section import Block, Section, TextBlock


def _setting(run: RunReport) -> str:
    return f"{narrative.setting(run, run.statuses, run.scale)} {narrative.judgement(run)}".strip()


def _wandb(run: RunReport) -> Iterator[Block]:
    for first, text in run.notices.items():
        yield TextBlock(text, lead=first, notice=True)
    yield TextBlock("", lead=run.answer)
    yield TextBlock(_setting(run))


SECTION = Section("summary.html.j2", build=lambda run, budget: _setting(run), wandb=_wandb)
