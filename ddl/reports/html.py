"""The HTML report: one file that opens offline, anywhere, and years from now."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from ddl.reports import atomic, figures, gallery, wording
from ddl.reports.model import Report, Run

_TEMPLATES = Path(__file__).parent / "templates"

_SCRIPTS = ("page", "curves", "tradeoffs", "parallel", "trials", "start")
"""The chapters of the page's script, in the order they are read."""


def write(report: Report, path: Path, refresh_s: float | None = None) -> None:
    """Write the report to `path`, replacing what was there at one moment. `refresh_s` as in `render`."""
    atomic.replace(Path(path), render(report, refresh_s).encode())


def render(report: Report, refresh_s: float | None = None) -> str:
    """The page as text. Whatever comes from data is escaped, and no script but the page's own may run in it.

    With `refresh_s` the page loads itself anew every so many seconds: the file is rewritten while the sweep runs.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": wording.number, "interval": wording.interval, "duration": wording.duration, "cost": wording.cost,
        "metric": wording.metric, "key": wording.key, "milestone": wording.milestone,
    }  # fmt: skip
    chapters = "".join((_TEMPLATES / f"{name}.js").read_text() for name in _SCRIPTS)
    scripts = [get_plotlyjs(), f'"use strict";\n(() => {{\n{chapters}}})();']
    budget = gallery.Budget(0, 0)
    sections = []
    for run in report.runs:
        budget.images += gallery.IMAGES_BYTES // len(report.runs)
        budget.texts += gallery.TEXTS_CHARACTERS // len(report.runs)
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

    run: Run
    panels: list[dict[str, Any]]
    axes: list[str]
    tradeoffs: list[dict[str, Any]]
    colours: dict[str, int]
    strips: figures.Strips | None
    images: list[gallery.Group]
    texts: list[gallery.Texts]


def _section(run: Run, budget: gallery.Budget) -> Section:
    return Section(
        run=run,
        panels=figures.panels(run.panels, run.shown),
        axes=list(dict.fromkeys(axis for panel in run.panels for axis in panel.axes)),
        tradeoffs=figures.tradeoffs(run.tradeoffs, run.shown, run.primary),
        colours={name: index for index, name in enumerate(run.shown)},
        strips=figures.strips(run.configurations, run.primary, run.reference),
        images=gallery.images(run.images, budget),
        texts=gallery.texts(run.texts, budget),
    )
