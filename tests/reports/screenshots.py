"""Screenshots of a run's report: `python -m tests.reports.screenshots RUN` writes docs/report.png and docs/report-phone.png.

Each shows the top of the page in 256 colours and is smaller than 200 kB.
"""

import io
import sys
import tempfile
from pathlib import Path
from shutil import which

from PIL import Image
from playwright.sync_api import sync_playwright

from ddl.reports import html, model

DOCS = Path(__file__).parents[2] / "docs"
MOST_BYTES = 200_000
VIEWS = {"report.png": (1280, 2000), "report-phone.png": (390, 1700)}


def take(folder: Path, to: Path = DOCS) -> None:
    """Write screenshots of the report on the run in `folder`. Raises ValueError if one is too large."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        path = Path(scratch) / "report.html"
        html.write_html(model.build_report([folder]), path)
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height) in VIEWS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, has_touch=width < 640)
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-plotted]")
            page.wait_for_timeout(500)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE)
            picture.save(to / name, optimize=True)
            if (to / name).stat().st_size > MOST_BYTES:
                raise ValueError(
                    f"{to / name}: {(to / name).stat().st_size:,} bytes, more than {MOST_BYTES:,}. Reduce its height in VIEWS."
                )
            page.close()
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
