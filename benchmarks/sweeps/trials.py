"""Overhead of a trial: seconds per trial, memory and disk space of sweeps of trials that compute nothing.

    python -m benchmarks.sweeps.trials [--trials 10 100 1000 10000] [--executor inline] [--out FILE.json]

Each line is one run of the command, from Enter to the report, without W&B and latency. CPU time is the driver's, user and system. Memory is the peak of the resident set, sampled
every 0.2 s: of the driver, and summed over all its processes (pages that they share count several times).
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
SWEEP = Path(__file__).with_name("noop.yaml")


def measure(trials: int, executor: str, folder: Path) -> dict[str, float]:
    """Run a sweep of `trials` trials in `folder` and return its measurements. Raises CalledProcessError if it fails."""
    command = [sys.executable, str(ROOT / "launch.py"), "--sweep", str(SWEEP), "--scale", "smoke", "--executor", executor]
    command += ["--out", str(folder), f"seeds={trials}", "latency=none", "wandb.mode=disabled", "resources.cpus=1"]
    driver_bytes = all_bytes = 0
    cpu_s = 0.0
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        driver = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):  # a process that has just ended
                own = driver.memory_info().rss
                driver_bytes = max(driver_bytes, own)
                cpu_s = sum(driver.cpu_times()[:2])
                all_bytes = max(all_bytes, own + sum(child.memory_info().rss for child in driver.children(recursive=True)))
            time.sleep(0.2)
        seconds = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, (folder / "log").read_text()[-3000:])
    size = sum(path.stat().st_size for path in (folder / "noop").rglob("*") if path.is_file())
    return {
        "trials": trials,
        "seconds": seconds,
        "ms_per_trial": 1000 * seconds / trials,
        "cpu_ms_per_trial": 1000 * cpu_s / trials,
        "driver_mib": driver_bytes / 2**20,
        "all_processes_mib": all_bytes / 2**20,
        "folder_mb": size / 1e6,
    }


def main() -> None:
    """Run the benchmark and print a line for each number of trials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--executor", choices=("inline", "ray"), default="inline")
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    given = parser.parse_args()
    results = []
    print(
        f"{'trials':>8} {'seconds':>9} {'ms a trial':>11} {'CPU ms a trial':>15} {'driver, MiB':>12} {'all processes, MiB':>19} {'run folder, MB':>15}"
    )
    for trials in given.trials:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(trials, given.executor, Path(folder))
        results.append(found)
        columns = f"{found['driver_mib']:12.0f} {found['all_processes_mib']:19.0f} {found['folder_mb']:15.1f}"
        print(f"{trials:8} {found['seconds']:9.1f} {found['ms_per_trial']:11.1f} {found['cpu_ms_per_trial']:15.1f} {columns}", flush=True)
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
