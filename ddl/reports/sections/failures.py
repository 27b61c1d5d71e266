"""The failed and diverged trials with their reasons."""

from collections.abc import Iterator

from ddl.reports.model import RunReport
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock


def _wandb(run: RunReport) -> Iterator[Block]:
    if run.failures:
        yield HeadingBlock("Failed and diverged trials")
        rows = [[t.configuration, t.seed, t.status, t.reason or "no reason recorded", t.trial_id] for t in run.failures]
        yield TableBlock(["configuration", "seed", "status", "reason", "trial"], rows, "Trials that failed or diverged.")


SECTION = Section("failures.html.j2", build=lambda run, budget: run.failures or None, wandb=_wandb)
