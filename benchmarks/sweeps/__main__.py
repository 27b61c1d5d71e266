"""Time of whole sweeps, from Enter to the report, compared with two programs written without ddl; and their quality.

    python -m benchmarks.sweeps [--sweeps augmentation ...] [--rounds 3] [--seeds N] [--scale sample] [--overrides task.lr=0.1 ...]
                                [--out runs/sweeps-benchmark] [--quick]

The three contestants take turns in every round, and each is a fresh process:

- ours: `python launch.py --sweep NAME --scale SCALE wandb.mode=offline`, with all it does: plan (without the timings of an earlier one),
  ledger, checkpoints, telemetry, latency, W&B, report.
- naive: Ray Tune with a process per trial, a DataLoader, torchvision transforms of single images, eager fp32, W&B offline, a CSV file
  and a small HTML report (`naive.py`). CartPole: one environment, step by step, as CleanRL writes it, but with batched evaluations.
- tuned: one Ray actor per core for all trials, data in memory, batched augmentation, channels_last, bf16 if it is faster, no W&B, the
  same report (`tuned.py`). CartPole: all environments of a trial at once.

All train the same networks on the same data with the same hyperparameters, seeds, epochs or env steps, and evaluations. Time ratios
are computed within a round, because the speed of a machine drifts. Quality is the mean and 95% interval over seeds of the sweep's
metric (each trial's best evaluation) in the first round. Equal quality means that the three intervals of every configuration overlap.
Results are also written to OUT/results.json, after each round. Sweeps that are measured later on the same machine, with the same OUT, are
added to them. `--quick` is a self-test: one round at the smoke scale.
"""

import argparse
import csv
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.sweeps import workloads
from ddl import config, provenance
from ddl.reports.statistics import estimate
from ddl.sweeps import RAY_SETTINGS, space
from ddl.sweeps.known_timings import forget_timings
from ddl.telemetry.describe import cpu_name

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = ("augmentation", "regularisation", "representation", "forecasting", "sentiment", "cartpole")
CONTESTANTS = ("ours", "naive", "tuned")
ROUNDING = 1e-6
"""Relative distance of two intervals that counts as overlap: configurations without randomness have intervals of width 0."""


def describe(sweep: str, scale: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The file of trials of a sweep (see `workloads`). Raises ValueError with every mistake."""
    problems: list[str] = []
    composed = config.compose_sweep(sweep, overrides, scale, problems)
    trials = space.expand_trials(composed, problems) if composed else []
    if problems or composed is None:
        raise ValueError("\n".join(problems))
    return {
        "sweep": sweep,
        "task": composed.task_class.__name__,
        "metric": asdict(composed.file.metric),
        "trials": [asdict(trial.task) | {"configuration": trial.configuration} for trial in trials],
    }


def command_of(contestant: str, sweep: str, scale: str, overrides: Sequence[str], trials: Path, out: Path) -> list[str]:
    """The command line of a contestant; its results are written below `out`."""
    if contestant == "ours":
        launch = [sys.executable, str(ROOT / "launch.py"), "--sweep", sweep, "--scale", scale, "--out", str(out)]
        return [*launch, "wandb.mode=offline", *overrides]
    return [sys.executable, "-m", f"benchmarks.sweeps.{contestant}", str(trials), "--out", str(out)]


def run(command: Sequence[str], log: Path) -> float:
    """Run a command and return its seconds. Raises RuntimeError with the end of its output if it fails."""
    # Importing ddl.sweeps has set variables for ddl's own use of Ray. The baselines run with Ray's defaults.
    variables = {name: value for name, value in os.environ.items() if name not in RAY_SETTINGS and name != "RAY_AUTH_MODE"}
    variables |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "WANDB_SILENT": "true"}
    with log.open("w") as output:
        began = time.perf_counter()
        code = subprocess.run(command, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT).returncode
        seconds = time.perf_counter() - began
    if code:
        raise RuntimeError(f"{' '.join(command)}: exit code {code}. {log} ends with:\n{log.read_text()[-3000:]}")
    return seconds


def read_values(folder: Path, metric: str) -> dict[str, list[float]]:
    """Each configuration's best values of the metric, by seed, from the results.csv below `folder`."""
    (path,) = folder.rglob("results.csv")
    values: dict[str, list[float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row[f"best {metric}"]:
                values.setdefault(row["configuration"], []).append(float(row[f"best {metric}"]))
    return values


def earlier_results(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The sweeps in a file of results that were measured completely with these settings."""
    if not path.exists():
        return {}
    results = json.loads(path.read_text())
    same = all(results[name] == value for name, value in settings.items())
    return {name: found for name, found in results["sweeps"].items() if same and "ratios" in found}


def compare_quality(values: Mapping[str, Mapping[str, Sequence[float]]]) -> list[dict[str, Any]]:
    """For each configuration: mean and interval of each contestant, and if the intervals overlap (None: there are none)."""
    rows = []
    for configuration in values["ours"]:
        estimates = {name: estimate(found.get(configuration, ())) for name, found in values.items()}
        lows, highs = ([getattr(each, end) for each in estimates.values()] for end in ("low", "high"))
        tolerance = ROUNDING * abs(estimates["ours"].mean or 0.0)
        overlap = None if None in lows else max(lows) <= min(highs) + tolerance
        rows.append({"configuration": configuration, "overlap": overlap} | {name: asdict(each) for name, each in estimates.items()})
    return rows


def summarise(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median over the rounds of each baseline's time divided by ours."""
    return {
        name: statistics.median(theirs / ours for theirs, ours in zip(seconds[name], seconds["ours"], strict=True))
        for name in CONTESTANTS
        if name != "ours"
    }


def geometric_means(sweeps: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Geometric mean over the sweeps of each baseline's ratio."""
    names = CONTESTANTS[1:]
    return {name: math.exp(statistics.mean(math.log(sweep["ratios"][name]) for sweep in sweeps.values())) for name in names}


def measure(sweep: str, given: argparse.Namespace, number: int, found: dict[str, Any]) -> None:
    """Run one round of a sweep and add its results to `found`."""
    overrides = [*given.overrides, *([f"seeds={given.seeds}"] if given.seeds else [])]
    workload = describe(sweep, given.scale, overrides)
    trials = given.out / f"{sweep}.json"
    trials.write_text(json.dumps(workload))
    values = {}
    start = number % len(CONTESTANTS)
    for name in CONTESTANTS[start:] + CONTESTANTS[:start]:
        folder = given.out / "runs" / sweep / f"{number}-{name}"
        folder.mkdir(parents=True)
        command = command_of(name, sweep, given.scale, overrides, trials, folder)
        forget_timings()
        found["seconds"][name].append(run(command, given.out / f"{sweep}-{number}-{name}.log"))
        print(f"{sweep}, round {number + 1}, {name}: {found['seconds'][name][-1]:.1f} s", flush=True)
        values[name] = read_values(folder, workload["metric"]["name"])
        shutil.rmtree(folder)
    found["ratios"] = summarise(found["seconds"])
    if number == 0:
        found |= {"trials": len(workload["trials"]), "metric": workload["metric"]["name"], "quality": compare_quality(values)}


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Print the times, the ratios and the quality."""
    table = Table("sweep", "trials", "rounds", *CONTESTANTS, "naive / ours", "tuned / ours", title="Enter to report: median (min to max)")
    for sweep, found in results["sweeps"].items():
        times = [f"{statistics.median(found['seconds'][name]):.1f} s ({_spread(found['seconds'][name])})" for name in CONTESTANTS]
        table.add_row(
            sweep,
            str(found["trials"]),
            str(len(found["seconds"]["ours"])),
            *times,
            *(f"{found['ratios'][name]:.2f}" for name in CONTESTANTS[1:]),
        )
    means = results["geometric_means"]
    table.add_row("geometric mean", "", "", "", "", "", *(f"{means[name]:.2f}" for name in CONTESTANTS[1:]))
    console.print(table)
    for sweep, found in results["sweeps"].items():
        table = Table("configuration", *CONTESTANTS, "overlap", title=f"{sweep}: best {found['metric']}, mean (95% interval)")
        for row in found["quality"]:
            overlap = {True: "yes", False: "no", None: "-"}[row["overlap"]]
            table.add_row(row["configuration"], *(_interval(row[name]) for name in CONTESTANTS), overlap)
        console.print(table)
        overlaps = [row["overlap"] for row in found["quality"]]
        if None in overlaps:
            console.print(f"{sweep}: quality cannot be compared: intervals need at least 2 seeds")
        elif all(overlaps):
            console.print(f"{sweep}: equal quality: the intervals overlap for every configuration")
        else:
            console.print(f"{sweep}: the intervals do not overlap for {overlaps.count(False)} of {len(overlaps)} configurations")


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def _interval(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "-"
    return f"{found['mean']:.4g}" + ("" if found["low"] is None else f" ({found['low']:.4g} to {found['high']:.4g})")


def main() -> None:
    """Run the benchmark, print its results and write them to OUT/results.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, help="seeds per configuration (default: the sweep's)")
    parser.add_argument("--scale", choices=config.SCALES, default="sample")
    parser.add_argument("--overrides", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of launch.py, for all contestants")
    parser.add_argument("--out", type=Path, default=Path("runs/sweeps-benchmark"), help="folder for results.json and logs")
    parser.add_argument("--quick", action="store_true", help="self-test: one round at the smoke scale")
    given = parser.parse_args()
    given.out = given.out.resolve()
    if given.quick:
        given.scale, given.rounds = "smoke", 1
    given.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(given.out / "runs", ignore_errors=True)
    overrides = [*given.overrides, *([f"seeds={given.seeds}"] if given.seeds else [])]
    for sweep in given.sweeps:  # fails at once for a wrong override, and prepares the data, which no contestant is charged for
        workload = describe(sweep, given.scale, overrides)
        for trial in {trial["configuration"]: trial for trial in workload["trials"]}.values():
            if workload["task"] != "CartPole" and workloads.closed_form(workload["task"], trial) is None:
                workloads.build(workload["task"], trial)
    machine = {"processor": cpu_name(), "cores": len(os.sched_getaffinity(0)), "torch": torch.__version__}
    settings = {"machine": machine, "scale": given.scale, "overrides": overrides}
    results: dict[str, Any] = settings | {"sweeps": earlier_results(given.out / "results.json", settings)}
    for sweep in given.sweeps:
        results["sweeps"][sweep] = {"seconds": {name: [] for name in CONTESTANTS}, "commit": provenance.code()["commit"]}
    for number in range(given.rounds):
        for sweep in given.sweeps:
            measure(sweep, given, number, results["sweeps"][sweep])
            measured = {name: found for name, found in results["sweeps"].items() if "ratios" in found}
            results["geometric_means"] = geometric_means(measured)
            (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"{machine['cores']} cores, {machine['processor']}, torch {machine['torch']}, scale {given.scale}, load {os.getloadavg()[0]:.1f}")
    print_results(Console(width=None if sys.stdout.isatty() else 160), results)


if __name__ == "__main__":
    main()
