"""The HTML report: one file that opens offline, anywhere, and years from now."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from ddl.reports import atomic, figures, wording
from ddl.reports.model import Image, Report, Run

IMAGE_BYTES = 500_000
IMAGES_BYTES = 6_000_000
"""Larger images, and all once these bytes are spent, are named instead of shown: the page must stay fit to send."""

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Shown:
    """An image with its bytes as a data URI; "" where it was too large."""

    image: Image
    uri: str


def write(report: Report, path: Path) -> None:
    """Write the report to `path`, replacing what was there at one moment."""
    atomic.replace(Path(path), render(report).encode())


def render(report: Report) -> str:
    """The page as text. Whatever comes from data is escaped, and no script but the page's own may run in it."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": wording.number, "interval": wording.interval, "duration": wording.duration, "cost": _cost,
        "cost_name": _cost_name,
    }  # fmt: skip
    scripts = [get_plotlyjs(), (_TEMPLATES / "page.js").read_text()]
    return environment.get_template("report.html.j2").render(
        report=report,
        sections=[_section(run) for run in report.runs],
        palettes={"light": figures.LIGHT, "dark": figures.DARK},
        style=(_TEMPLATES / "style.css").read_text(),
        scripts=scripts,
        # Only scripts with these hashes run: were an escape ever forgotten, text from data still could not.
        hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
    )


@dataclass(frozen=True)
class Section:
    """A run with what the page draws of it."""

    run: Run
    panels: list[dict[str, Any]]
    colours: dict[str, int]
    strips: figures.Strips | None
    images: list[Shown]


def _section(run: Run) -> Section:
    return Section(
        run=run,
        panels=figures.panels(run.panels, run.shown),
        colours={name: index for index, name in enumerate(run.shown)},
        strips=figures.strips(run.configurations, run.primary, run.reference),
        images=_images(run.images),
    )


def _images(images: tuple[Image, ...]) -> list[Shown]:
    left = IMAGES_BYTES
    shown = []
    for image in images:
        size = image.path.stat().st_size
        if size > min(IMAGE_BYTES, left):
            shown.append(Shown(image, ""))
            continue
        left -= size
        shown.append(Shown(image, "data:image/png;base64," + base64.b64encode(image.path.read_bytes()).decode()))
    return shown


def _cost_name(cost: str) -> str:
    """A column heading: `time/images_per_s` is "images / s"."""
    if cost == "elapsed_s":
        return "trained for"
    cost = cost.replace("latency/", "latency_")  # p50 of what?
    return cost.split("/", 1)[-1].replace("_per_", " / ").replace("_percent", " %").replace("_", " ")


def _cost(value: float, cost: str) -> str:
    if cost == "elapsed_s":
        return wording.duration(value)
    return f"{value:,.0f}" if cost == "parameters" else wording.number(value)
