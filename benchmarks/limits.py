"""Overhead of a sweep in its driver, one constant per line; docs/cluster.md derives the maximum size of a sweep from them.

    python benchmarks/limits.py [--folder DIR] [--trials 100] [--seconds 5]

The trials train nothing and report at once, so only ddl's and Ray's overhead is timed. Ledgers are written in DIR (default: the
system's folder for temporary files); its disk determines the time of a durable write.
"""

import argparse
import dataclasses
import os
import pickle
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import torch
from pydantic.dataclasses import dataclass
from ray import cloudpickle

from ddl import config
from ddl.console import quiet
from ddl.devices import Device
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.progress import Progress, State
from ddl.reports import html, model, results
from ddl.run_folder import LEDGER
from ddl.sweeps import space
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.capacity import local_capacity
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe_limits import PROBE_STALL_S
from ddl.sweeps.ray_schedulers import InOrder
from ddl.sweeps.ray_tune import RayExecutor
from ddl.tasks.task import STRICT, Count, Task
from ddl.trial_report import TrialReport

METRICS = {"train/loss": 0.5, "val/loss": 0.6, "val/accuracy": 0.8, "time/evaluate_s": 0.1}
"""One measurement, with about as many metrics as the classification task."""

RUN = {
    "sweep": {
        "name": "limits", "title": "Limits", "task": "tiny", "metric": {"name": "val/accuracy", "mode": "max"}, "seeds": 1,
        "keys": ["task.augmentation"], "reference": None,
    },
    "scale": "sample", "command": "", "resume": "", "created": "2026-01-01T00:00:00+0000", "versions": {}, "commit": "", "host": {},
    "overrides": [], "launch": {}, "executor": "ray",
}  # fmt: skip


@dataclass(frozen=True, config=STRICT)
class Tiny(Task):
    """Reports `measurements` measurements and computes nothing."""

    measurements: Count

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        for step in range(1, self.measurements + 1):
            yield Progress(step=step, total_steps=self.measurements, state=lambda step=step: {"step": step}, metrics=METRICS)


def print_constant(name: str, value: float, unit: str) -> None:
    """Print one constant in columns."""
    print(f"{name:58} {value:12.4g} {unit}", flush=True)


def rows(count: int, configurations: int) -> list[TrialRow]:
    """`count` trials in `configurations` configurations, with the classification task's hyperparameters."""
    problems: list[str] = []
    sweep = config.compose_sweep("augmentation", [], "sample", problems)
    assert sweep is not None, problems
    task = dataclasses.asdict(space.expand_trials(sweep, problems)[0].task)
    return [
        TrialRow(f"{n:012d}", n, f"c{n % configurations}", {"task.augmentation": f"c{n % configurations}"}, task, n // configurations)
        for n in range(count)
    ]


def expansion() -> None:
    """Time the expansion of a sweep into trials, and measure the size of an assignment."""
    problems: list[str] = []
    sweep = config.compose_sweep("augmentation", ["seeds=3334"], "sample", problems)
    assert sweep is not None, problems
    began = time.perf_counter()
    trials = space.expand_trials(sweep, problems)
    print_constant("space.expand_trials, 10,000 trials", (time.perf_counter() - began) * 10_000 / len(trials), "s")
    first = Assignment(trials[0].trial_id, trials[0].task, 1, 1, 0.0, Path("/shared/runs/a") / trials[0].trial_id, 15.0)
    print_constant("Ray: serialised assignment of a trial", len(cloudpickle.dumps(first, pickle.HIGHEST_PROTOCOL)), "bytes")


def ledger(folder: Path, seconds: float) -> None:
    """Time the ledger's one writer; each measurement is durable before the next is written."""
    began = time.perf_counter()
    with Ledger.create(folder, RUN, rows(10_000, 3)) as written:
        print_constant("ledger: Ledger.create, 10,000 trials", time.perf_counter() - began, "s")
        planned = (folder / LEDGER).stat().st_size
        print_constant("ledger: size per trial without measurements", planned / 10_000, "bytes")
        began, count = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            written.record([TrialReport(f"{count % 10_000:012d}", "measured", step=count, elapsed_s=1.0, metrics=METRICS)])
            count += 1
        print_constant("ledger: measurements recorded", count / passed, "/s")
        print_constant("ledger: rows recorded", count * len(METRICS) / passed, "/s")
        print_constant("ledger: size per row", ((folder / LEDGER).stat().st_size - planned) / (count * len(METRICS)), "bytes")
        began, ended = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds / 2:
            written.record([TrialReport(f"{ended % 10_000:012d}", "started", step=1, place="host cpu")])
            written.record([TrialReport(f"{ended % 10_000:012d}", "ended", status="finished", metrics={"time/train_s": 1.0})])
            ended += 1
        print_constant("ledger: trials started and ended", ended / passed, "/s")
    began = time.perf_counter()
    LedgerReader(folder).trials()
    print_constant("ledger: reading 10,000 trials, as the W&B follower does", time.perf_counter() - began, "s")


def handover(folder: Path, trials: int) -> None:
    """Time reports through Ray Tune, from workers to the driver, which only counts them."""
    cores = local_capacity().cpus
    measurements = 200
    constants: list[tuple[str, float, str]] = []
    with quiet(folder / "log"), RayExecutor(None, 0, folder, InOrder(), {"ddl"}, None, PROBE_STALL_S) as executor:

        def rate(name: str, count: int, each: int, kind: str) -> float:
            """Reports of kind `kind` per second, from the first one on: before it, processes start."""
            part = [Assignment(f"{name}{n}", Tiny(n, each), 1, 1, 0.0, folder / name / str(n), 1e9) for n in range(count)]
            times = []
            for reports in executor.run([Pack((assignment,)) for assignment in part], None):
                assert all(report.status in ("", "finished") for report in reports), reports
                times += [time.perf_counter() for report in reports if report.kind == kind]
            return (len(times) - 1) / (times[-1] - times[0])

        each = rate("long", cores, measurements, "measured")
        constants.append((f"Ray: reports received, {cores} trials of {measurements} measurements", each, "/s"))
        before = psutil.Process().memory_info().rss
        for name, count in (("few", trials), ("many", 3 * trials)):
            constants.append((f"Ray: trials of one measurement, {count} in total", rate(name, count, 1, "ended"), "/s"))
        constants.append(("Ray: memory of the driver per trial", (psutil.Process().memory_info().rss - before) / (4 * trials), "bytes"))
    for name, value, unit in constants:
        print_constant(name, value, unit)


def report(folder: Path, trials: int, epochs: int, configurations: int) -> None:
    """Time the results and the report of a finished run."""
    with Ledger.create(folder, RUN, rows(trials, configurations)) as written:
        # One transaction for all rows: writing them is not timed.
        written._db.executemany(
            "INSERT INTO metrics (trial_id, step, epoch, elapsed_s, name, value) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (f"{trial:012d}", step, step, float(step), name, value + 1e-5 * (trial * 7919 % 997))
                for trial in range(trials)
                for step in range(1, epochs + 1)
                for name, value in METRICS.items()
            ],
        )
        written._db.execute("UPDATE trials SET status = 'finished', attempts = 1, place = 'host cpu', started_at = 0, ended_at = 100")
        written._db.commit()
    began = time.perf_counter()
    results.write_results(folder)
    print_constant(f"report: results.csv and .parquet, {trials:,} trials of {epochs} epochs", time.perf_counter() - began, "s")
    began = time.perf_counter()
    html.write_html(model.build_report([folder]), folder / "report.html")
    print_constant(f"report: report.html of them, {configurations} configurations", time.perf_counter() - began, "s")
    print_constant("report: size of report.html", (folder / "report.html").stat().st_size / 1e6, "MB")


def main() -> None:
    """Measure and print all constants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--trials", type=int, default=100, help="trials that Ray runs, and then three times as many")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of the ledger measurements")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        folders: Mapping[str, Path] = {name: Path(scratch) / name for name in ("ledger", "report", "ray")}
        for folder in folders.values():
            folder.mkdir()
        expansion()
        ledger(folders["ledger"], given.seconds)
        report(folders["report"], 1000, 10, 3)
        handover(folders["ray"], given.trials)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
