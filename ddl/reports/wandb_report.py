"""The report on a run as a W&B Report, with the tables and panels of the HTML report."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import Error
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from ddl.reports.markdown import escape, markdown_table
from ddl.reports.model import Report
from ddl.reports.sections import SECTIONS
from ddl.reports.sections.section import Block, HeadingBlock, LinePlotsBlock, TableBlock, TextBlock

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library uses deprecated code of its own dependencies
    from wandb_workspaces.reports.v2 import interface as wr

TITLE_LENGTH = 128
"""Longest title that W&B accepts."""

Clean = Callable[[str], str]


@dataclass(frozen=True)
class WandbGroup:
    """The runs of the report in W&B: all runs of `group` in `entity`'s `project`."""

    entity: str
    project: str
    group: str


def build_wandb_report(report: Report, place: WandbGroup, clean: Clean) -> wr.Report:
    """The report on one run. Needs no network. `clean` removes secrets and paths; every text that is sent passes through it."""
    (run,) = report.runs
    renderer = _BlockRenderer(place, clean, run.caption)
    blocks = [renderer.block(block) for section in SECTIONS if section.wandb is not None for block in section.wandb(run)]
    title = clean(f"{report.title} ({place.group})")[:TITLE_LENGTH]
    return wr.Report(entity=place.entity, project=place.project, title=title, description=clean(run.answer), blocks=blocks, width="fluid")


def save_wandb_report(report: wr.Report, mark: Path) -> str:
    """Upload the report and return its URL. It replaces an earlier upload, whose id is in the file `mark`.

    Raises ValueError if the server does not accept it.
    """
    known = json.loads(mark.read_text()) if mark.is_file() else {}
    try:
        project = f"{wandb.Api().settings['base_url']}/{report.entity}/{report.project}"
        report.id = known.get(project, "")
        report.save()
        mark.write_text(json.dumps(known | {project: report.id}))
        return str(report.url)
    except (Error, WandbApiFailedError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(f"W&B: the trials are published, the report is not ({reason}). Try again later: nothing is sent twice.") from error


class _BlockRenderer:
    """Turns a section's blocks into W&B's: cleaned, escaped, and with the note on the data below every table and figure."""

    def __init__(self, place: WandbGroup, clean: Clean, data_note: str):
        self._place, self._clean = place, clean
        self._note = f" **{self._text(data_note)}.**" if data_note else ""

    def block(self, block: Block) -> Any:
        """The W&B block of `block`."""
        match block:
            case HeadingBlock():
                return wr.H2(block.text) if block.level == 2 else wr.H3(block.text)
            case TextBlock():
                lead = f"**{self._text(block.lead)}** " if block.lead else ""
                text = f"{'> ' if block.notice else ''}{lead}{self._text(block.text)}".rstrip()
                return wr.MarkdownBlock(text + (self._note if block.caption else ""))
            case TableBlock():
                table = markdown_table([*map(self._text, block.columns)], [map(self._text, row) for row in block.rows])
                return wr.MarkdownBlock(f"{table}\n\n{self._text(block.caption)}{self._note}")
            case LinePlotsBlock():
                return self._grid([_line_plot(metric, axis) for metric, axis in block.axes.items()])
        # The trials' own W&B runs name their figures by these keys.
        keys = dict.fromkeys(f"figures/{name.replace('.', '_')}" for name in block.names)
        return self._grid([wr.MediaBrowser(title=key.removeprefix("figures/"), media_keys=[key]) for key in keys])

    def _text(self, text: object) -> str:
        return escape(self._clean(str(text)))

    def _grid(self, panels: Sequence[Any]) -> wr.PanelGrid:
        # A literal, because the library's own filter objects do not escape a quote in a name.
        group = f'Metric("Group") == {self._place.group!r}'
        runs = wr.Runset(entity=self._place.entity, project=self._place.project, name=self._place.group, filters=group)
        return wr.PanelGrid(runsets=[runs], panels=list(panels))


def _line_plot(metric: str, axis: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=metric,
        x="epoch" if axis == "epoch" else "Step",
        y=[metric],
        groupby=wr.Config("configuration"),
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
    )
