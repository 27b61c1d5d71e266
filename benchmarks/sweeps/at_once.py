"""Load of the driver by many trials at once: the fraction of a core that it uses, and its memory.

    python -m benchmarks.sweeps.at_once [--trials 1000] [--measurements 10] [--every 10]

The trials sleep in stacks, one on each core, and each reports four metrics every few seconds. Measured while all of them run, as the CPU
time of the driver's process over the time that passed. W&B and latency are off.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from ddl.ledger_reader import LedgerReader
from ddl.run_folder import LEDGER

ROOT = Path(__file__).resolve().parents[2]
SWEEP = Path(__file__).with_name("sleeping.yaml")
SAMPLE_S = 0.5


def main() -> None:
    """Run the sweep and print the load."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--trials", type=int, default=1000)
    parse.add_argument("--measurements", type=int, default=10)
    parse.add_argument("--every", type=float, default=10.0, help="seconds between two measurements of a trial")
    given = parse.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "launch.py"), "--sweep", str(SWEEP), "--scale", "smoke", "--out", folder]
        command += [f"seeds={given.trials}", f"stack={given.trials}", "resources.cpus=1", "latency=none", "wandb.mode=disabled"]
        command += [f"task.measurements={given.measurements}", f"task.every_s={given.every}"]
        samples = run(command, Path(folder))
        (ledger,) = Path(folder).glob(f"sleeping/*/{LEDGER}")
        reader = LedgerReader(ledger.parent)
        trials, measured = reader.trials(), len(reader.metrics().query("name == 'val/value'"))
    assert measured == given.trials * given.measurements, "a measurement is missing"
    began, ended = max(trial.started_at or 0.0 for trial in trials), min(trial.ended_at or 0.0 for trial in trials)
    during = [(at, cpu_s) for at, cpu_s, _ in samples if began <= at <= ended]
    busy = (during[-1][1] - during[0][1]) / (during[-1][0] - during[0][0])
    print(
        f"{given.trials:,} trials at once for {during[-1][0] - during[0][0]:.0f} s, {given.trials / given.every:.0f} measurements a second"
    )
    print(f"driver: {100 * busy:.0f}% of a core, peak memory {max(size for *_, size in samples) / 2**20:.0f} MiB")


def run(command: list[str], folder: Path) -> list[tuple[float, float, int]]:
    """Run the command and return (time, CPU seconds, bytes of memory) of its process, every half second. Raises CalledProcessError."""
    samples = []
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log) as process,
    ):
        driver = psutil.Process(process.pid)
        while process.poll() is None:
            times = driver.cpu_times()
            samples.append((time.time(), times.user + times.system, driver.memory_info().rss))
            time.sleep(SAMPLE_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, (folder / "log").read_text()[-3000:])
    return samples


if __name__ == "__main__":
    main()
