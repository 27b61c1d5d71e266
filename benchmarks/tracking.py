"""Overhead of W&B for a sweep if its server never answers.

    python benchmarks/tracking.py [--rounds 3] [--epochs 8] [--cpus auto]

The same small sweep trains in one process (`--executor inline`) with `wandb.mode=disabled` and with `wandb.mode=online` against a
local server that accepts every connection and never answers. The two take turns, each in a new process, and the first one
alternates. The clock covers the whole call of `ddl.run_sweep`, with the report. The results are the ratio within each round (which
is robust against drift of the machine) of wall time and of the process's CPU time, and the wait for W&B at the end.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SWEEP = """
import json, sys, time
SMALL = ["seeds=2", "task.precision=fp32", "task.widths=[8,16,32]"]
import torch, pandas, plotly
import ddl, ddl.run
from ddl.reports import html, model
from ddl.tracking import follower_process
waited, wait = [], follower_process._wait
def timed(*arguments):
    since = time.perf_counter()
    wait(*arguments)
    waited.append(time.perf_counter() - since)
follower_process._wait = timed
began, used = time.perf_counter(), time.process_time()
overrides = [f"wandb.mode={sys.argv[1]}", f"task.epochs={sys.argv[2]}", f"resources.cpus={sys.argv[3]}", *SMALL]
run = ddl.run_sweep("augmentation", overrides, "smoke", "inline", out=sys.argv[4])
took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used, "waited": sum(waited)}
assert all(trial.status == "finished" for trial in run.trials)
print(json.dumps(took))
"""


def sweep(mode: str, epochs: int, cpus: str, address: str) -> dict[str, float]:
    """Wall seconds, CPU seconds and seconds waited for W&B, of one sweep."""
    with tempfile.TemporaryDirectory(prefix="ddl-tracking-") as out:
        variables = {
            "WANDB_BASE_URL": address,
            "WANDB_API_KEY": "k" * 40,
            "WANDB_CONFIG_DIR": f"{out}/config",
            "WANDB_CACHE_DIR": f"{out}/cache",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-c", SWEEP, mode, str(epochs), cpus, f"{out}/runs"]
        done = subprocess.run(command, env=os.environ | variables, cwd=out, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        log = next(Path(out).glob("runs/*/*/launch.log")).read_text()
        assert ("Publish it later" in log) is (mode == "online"), log  # publishing was tried and failed
        seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return seconds


@contextmanager
def black_hole() -> Iterator[str]:
    """Run a server that accepts connections (the kernel does) and never answers; yields its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def main() -> None:
    """Run the benchmark and print the ratios."""
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--epochs", type=int, default=8, help="epochs per trial")
    parse.add_argument("--cpus", default="auto", help="threads per trial; auto: all cores, so that none is left for W&B")
    given = parse.parse_args()
    ratios: dict[str, list[float]] = {"seconds": [], "cpu": []}
    with black_hole() as address:
        for number in range(given.rounds):
            modes = ("disabled", "online") if number % 2 == 0 else ("online", "disabled")
            took = {mode: sweep(mode, given.epochs, given.cpus, address) for mode in modes}
            for kind, values in ratios.items():
                values.append(took["online"][kind] / took["disabled"][kind])
            off, hole = took["disabled"], took["online"]
            print(f"round {number + 1}: disabled {off['seconds']:.2f} s, unreachable {hole['seconds']:.2f} s", end="")
            print(f", of which {hole['waited']:.2f} s waiting at the end", flush=True)
    for kind, values in ratios.items():
        name = {"seconds": "wall time", "cpu": "CPU time of the process"}[kind]
        print(
            f"{name}, unreachable / disabled: {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f}), n = {len(values)}"
        )


if __name__ == "__main__":
    main()
