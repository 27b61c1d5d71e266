"""Benchmark of the report of 1,000 trials: time to build, time to open, and size. Run `python -m benchmarks.report`.

The run is synthetic: 200 configurations with 5 seeds each, 160,000 measurements, 4,000 images and 1,000 texts. The time to
open is from the navigation until the first plots appear, in headless Chromium, each time in a new page. It prints the median, the range
and n.
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
    """Time building and opening the report, and print the results."""
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
        print_times("built in", building)
        print(f"size {path.stat().st_size / 1e6:.1f} MB")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox", "--disable-gpu"])
            opening = []
            for _ in range(rounds):
                page = browser.new_page()
                began = time.perf_counter()
                page.goto(path.as_uri())
                page.wait_for_selector("html[data-plotted]")
                opening.append(time.perf_counter() - began)
                page.close()
            browser.close()
        print_times("opened in", opening)


def print_times(label: str, seconds: list[float]) -> None:
    """Print the median, the range and n of `seconds`."""
    print(f"{label} {median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}, n = {len(seconds)})")


if __name__ == "__main__":
    main()
