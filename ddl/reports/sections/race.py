"""A race over seeds: when each configuration left it and why, and how it ended."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ddl.reports import narrative, wording
from ddl.reports.model import RunReport
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock, TextBlock

CAPTION = (
    "Configurations in the order in which they left the race. A configuration leaves when a one-sided paired t test says that another one is "
    "better. The interval and the level hold for all looks and all configurations together: a race drops the best configuration with a "
    "probability below 5%. A trial that failed or diverged counts as the worst value of the race."
)


@dataclass(frozen=True)
class RaceTable:
    """`summary`: how the race ended and what it cost. `rows`: a row of texts for each configuration."""

    summary: str
    rows: list[tuple[str, int, str, str, str, str]]
    columns = ("Configuration", "Trials", "Left after", "Compared with", "Difference, interval", "p (level)")


def _table(run: RunReport) -> RaceTable | None:
    race = run.record.get("race")
    if not race:
        return None
    trials = {c.name: sum(c.statuses.values()) for c in run.configurations}
    most = race["rules"]["at_most"] * race["rules"]["configurations"]
    spent = f"It took {sum(trials.values())} of at most {most} trials ({sum(trials.values()) / most:.0%})."
    dropped = {drop["configuration"]: drop for drop in race["drops"]}
    rows = [_row(name, trials.get(name, 0), drop) for name, drop in dropped.items()]
    rows += [(name, trials.get(name, 0), "", "", "", "") for name in race["left"]]
    return RaceTable(f"{narrative.race_end(race)} {spent}", rows)


def _row(name: str, trials: int, drop: Mapping[str, Any]) -> tuple[str, int, str, str, str, str]:
    left = f"{drop['seeds']} seeds"
    if drop["difference"] is None:
        return name, trials, left, drop["better"], "no trial has a value", ""
    interval = f"{wording.number(drop['difference'])} [{wording.number(drop['low'])}, {wording.number(drop['high'])}]"
    return name, trials, left, drop["better"], interval, f"{drop['p']:.2g} (< {drop['level']:.2g})"


def _wandb(run: RunReport) -> Iterator[Block]:
    if table := _table(run):
        yield HeadingBlock("Race over seeds")
        yield TextBlock(table.summary)
        yield TableBlock(table.columns, table.rows, CAPTION)


SECTION = Section("race.html.j2", build=lambda run, budget: (table, CAPTION) if (table := _table(run)) else None, wandb=_wandb)
