"""How long a report of 1,000 trials takes to build and to open, and how large it is: `python -m benchmarks.report`.

The run is synthetic: 200 configurations with 5 seeds each, 160,000 measurements, 4,000 images and 1,000 texts. Opening is from the
navigation to the first plots being drawn, in headless Chromium, each time in a fresh page. Printed: the median, the range and n.
"""

import argparse
import tempfile
import time
from pathlib import Path
from shutil import which
from statistics import median

from playwright.sync_api import sync_playwright

from ddl.reports import html, model
from tests.reports.synthetic import create_thousand


def main() -> None:
    parse = argparse.ArgumentParser(description="Time the report of 1,000 trials.")
    parse.add_argument("--rounds", type=int, default=5)
    rounds = parse.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        folder, path = create_thousand(Path(scratch) / "run", images=True), Path(scratch) / "report.html"
        building = []
        for _ in range(rounds):
            began = time.perf_counter()
            html.write_html(model.build_report([folder]), path)
            building.append(time.perf_counter() - began)
        say("built in", building)
        print(f"size {path.stat().st_size / 1e6:.1f} MB")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox", "--disable-gpu"])
            opening = []
            for _ in range(rounds):
                page = browser.new_page()
                began = time.perf_counter()
                page.goto(path.as_uri())
                page.wait_for_selector("html[data-drawn]")
                opening.append(time.perf_counter() - began)
                page.close()
            browser.close()
        say("opened in", opening)


def say(what: str, seconds: list[float]) -> None:
    print(f"{what} {median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}, n = {len(seconds)})")


if __name__ == "__main__":
    main()
