"""Benchmark of the report of many trials. Run `python -m benchmarks.report`, or with `--configurations 2000 --no-files` for 10,000 trials.

The run is synthetic: by default 200 configurations with 5 seeds each, 160,000 measurements, 4,000 images and 1,000 texts. Prints the CPU
time and the peak memory of `python launch.py --report`, the size of the page, and the time to open it in headless Chromium, each time as a
new page: from the navigation until the first plots and tables are painted. Times are the median, the range and n.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from shutil import which
from statistics import median

import psutil
from playwright.sync_api import sync_playwright

from tests.reports.synthetic import create_many

ROOT = Path(__file__).resolve().parents[1]
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def main() -> None:
    """Time building and opening the report, and print the results."""
    parse = argparse.ArgumentParser(description="Time the report of many trials.")
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--configurations", type=int, default=200)
    parse.add_argument("--seeds", type=int, default=5)
    parse.add_argument("--epochs", type=int, default=40, help="epochs of each trial, with four measurements each")
    parse.add_argument("--no-files", action="store_true", help="trials without images and texts")
    given = parse.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = create_many(Path(scratch) / "run", given.configurations, given.seeds, given.epochs, images=not given.no_files)
        path = folder / "report.html"
        building = [build(folder) for _ in range(given.rounds)]
        print(f"{given.configurations * given.seeds:,} trials of {given.configurations:,} configurations")
        print_times("--report, CPU time", [seconds for seconds, _ in building])
        print(f"--report, peak memory {max(size for _, size in building) / 2**20:.0f} MiB")
        print(f"size {path.stat().st_size / 1e6:.1f} MB")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox", "--disable-gpu"])
            opening, computing = [], []
            for _ in range(given.rounds):
                page = browser.new_page()
                began, before = time.perf_counter(), browser_cpu_s()
                page.goto(path.as_uri())
                page.wait_for_selector("html[data-plotted]")
                page.evaluate(PAINTED)
                opening.append(time.perf_counter() - began)
                computing.append(browser_cpu_s() - before)
                page.close()
            browser.close()
        print_times("opened in", opening)
        print_times("CPU time of the browser", computing)


def build(folder: Path) -> tuple[float, int]:
    """Write the results and the report of the run in `folder`; returns the CPU seconds and the peak memory in bytes of the command."""
    command = [sys.executable, str(ROOT / "launch.py"), "--report", str(folder), "--trust"]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def browser_cpu_s() -> float:
    """CPU seconds that all processes of the browser have used."""
    started = psutil.Process().children(recursive=True)
    return sum(sum(process.cpu_times()[:2]) for process in started if process.name().startswith("chrom"))


def print_times(label: str, seconds: list[float]) -> None:
    """Print the median, the range and n of `seconds`."""
    print(f"{label} {median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}, n = {len(seconds)})")


if __name__ == "__main__":
    main()
