"""The HTML report: one file that opens offline on any machine, now and in years."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from ddl import durable, units
from ddl.reports import embedding, plotting, wording
from ddl.reports.model import Report
from ddl.reports.performance_profile import TAUS, performance_profile
from ddl.reports.sections import SECTIONS
from ddl.reports.sections.budget import budget_text

_TEMPLATES = Path(__file__).parent / "templates"

PAGE_ROWS = 100
"""Rows of a table that are shown at a time."""


def write_html(report: Report, path: Path, refresh_s: float | None = None) -> None:
    """Write the report to `path`, replacing an older file atomically. `refresh_s` as in `render_html`."""
    durable.replace_file(Path(path), render_html(report, refresh_s).encode())


def render_html(report: Report, refresh_s: float | None = None) -> str:
    """The page as text. Everything that comes from data is escaped, and only the page's own scripts can run.

    With `refresh_s` the page reloads itself at this interval in seconds, for a file that is rewritten while the sweep runs.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": wording.number, "interval": wording.interval, "duration": units.duration, "cost": wording.cost,
        "metric": wording.metric, "key": wording.key, "milestone": wording.milestone, "budget": budget_text,
    }  # fmt: skip
    names = ["page.js", *(section.script for section in SECTIONS if section.script), "start.js"]
    chapters = "".join((_TEMPLATES / name).read_text() for name in names)
    scripts = [get_plotlyjs(), f'"use strict";\n(() => {{\n{chapters}}})();']
    budget = embedding.EmbeddingBudget(0, 0)
    pages = []
    for run in report.runs:
        budget.images += embedding.IMAGES_BYTES // len(report.runs)
        budget.texts += embedding.TEXTS_CHARACTERS // len(report.runs)
        built = [(section.template, section.build(run, budget)) for section in SECTIONS]
        pages.append((run, [(template, data) for template, data in built if data is not None]))
    return environment.get_template("report.html.j2").render(
        report=report,
        pages=pages,
        profile=performance_profile(report.runs),
        taus=TAUS,
        page_rows=PAGE_ROWS,
        refresh_s=None if refresh_s is None else round(refresh_s),
        palettes={"light": plotting.LIGHT, "dark": plotting.DARK},
        style=(_TEMPLATES / "style.css").read_text(),
        scripts=scripts,
        # Only scripts with these hashes can run, so text from data could not run even if an escape were missing.
        hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
    )
