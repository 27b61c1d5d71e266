"""The HTML report: one file that opens offline, anywhere, and years from now."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from ddl import durable, units
from ddl.reports import embedding, figures, wording
from ddl.reports.model import Report, RunReport

_TEMPLATES = Path(__file__).parent / "templates"

_SCRIPTS = ("page", "curves", "tradeoffs", "parallel", "trials", "start")
"""The chapters of the page's script, in the order they are read."""


def write_html(report: Report, path: Path, refresh_s: float | None = None) -> None:
    """Write the report to `path`, replacing what was there at one moment. `refresh_s` as in `render_html`."""
    durable.replace_file(Path(path), render_html(report, refresh_s).encode())


def render_html(report: Report, refresh_s: float | None = None) -> str:
    """The page as text. Whatever comes from data is escaped, and no script but the page's own may run in it.

    With `refresh_s` the page loads itself anew every so many seconds: the file is rewritten while the sweep runs.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": wording.number, "interval": wording.interval, "duration": units.duration, "cost": wording.cost,
        "metric": wording.metric, "key": wording.key, "milestone": wording.milestone,
    }  # fmt: skip
    chapters = "".join((_TEMPLATES / f"{name}.js").read_text() for name in _SCRIPTS)
    scripts = [get_plotlyjs(), f'"use strict";\n(() => {{\n{chapters}}})();']
    budget = embedding.EmbeddingBudget(0, 0)
    sections = []
    for run in report.runs:
        budget.images += embedding.IMAGES_BYTES // len(report.runs)
        budget.texts += embedding.TEXTS_CHARACTERS // len(report.runs)
        sections.append(_section(run, budget))
    return environment.get_template("report.html.j2").render(
        report=report,
        sections=sections,
        refresh_s=None if refresh_s is None else round(refresh_s),
        palettes={"light": figures.LIGHT, "dark": figures.DARK},
        style=(_TEMPLATES / "style.css").read_text(),
        scripts=scripts,
        # Only scripts with these hashes run: were an escape ever forgotten, text from data still could not.
        hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
    )


@dataclass(frozen=True)
class Section:
    """A run with what the page draws of it. `axes` are those that any panel has."""

    run: RunReport
    panels: list[dict[str, Any]]
    axes: list[str]
    tradeoffs: list[dict[str, Any]]
    colours: dict[str, int]
    strips: figures.IntervalStrips | None
    images: list[embedding.ImageGroup]
    texts: list[embedding.TextGroup]


def _section(run: RunReport, budget: embedding.EmbeddingBudget) -> Section:
    return Section(
        run=run,
        panels=figures.panel_figures(run.panels, run.shown),
        axes=list(dict.fromkeys(axis for panel in run.panels for axis in panel.axes)),
        tradeoffs=figures.tradeoff_figures(run.tradeoffs, run.shown, run.primary),
        colours={name: index for index, name in enumerate(run.shown)},
        strips=figures.interval_strips(run.configurations, run.primary, run.reference),
        images=embedding.embed_images(run.images, budget),
        texts=embedding.embed_texts(run.texts, budget),
    )
