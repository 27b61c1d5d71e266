"""What W&B costs a sweep when its server never answers.

    python benchmarks/tracking.py [--rounds 3] [--epochs 8] [--cpus auto]

The same small sweep, trained in one process (`--executor inline`), with `wandb.mode=disabled` and with `wandb.mode=online` against
a server on the loopback that accepts every connection and never answers. The two take turns, the one that goes first changing
from round to round, each in a fresh process; a clock runs from the call of `ddl.run_sweep` to its return, report and all. What is
reported is the ratio within a round, since machines drift, and beside it what the sweep's own process computed (CPU seconds) and how
long it waited for W&B at its end.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
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
from ddl.tracking import follower
waited, wait = [], follower._wait
def timed(*arguments):
    since = time.perf_counter()
    wait(*arguments)
    waited.append(time.perf_counter() - since)
follower._wait = timed
began, used = time.perf_counter(), time.process_time()
overrides = [f"wandb.mode={sys.argv[1]}", f"task.epochs={sys.argv[2]}", f"resources.cpus={sys.argv[3]}", *SMALL]
run = ddl.run_sweep("augmentation", overrides, "smoke", "inline", out=sys.argv[4])
took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used, "waited": sum(waited)}
assert all(trial.status == "finished" for trial in run.trials)
print(json.dumps(took))
"""


def sweep(mode: str, epochs: int, cpus: str, address: str) -> dict[str, float]:
    """Seconds and CPU seconds of the sweep."""
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
        said = next(Path(out).glob("runs/*/*/launch.log")).read_text()
        assert ("publish it later" in said) is (mode == "online"), said  # it did try, and fail
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--epochs", type=int, default=8, help="how long the sweep is")
    parse.add_argument("--cpus", default="auto", help="threads of a trial; auto: all cores, so that nothing is left for W&B")
    given = parse.parse_args()
    ratios: dict[str, list[float]] = {"seconds": [], "cpu": []}
    with black_hole() as address:
        for number in range(given.rounds):
            modes = ("disabled", "online") if number % 2 == 0 else ("online", "disabled")
            took = {mode: sweep(mode, given.epochs, given.cpus, address) for mode in modes}
            for kind, found in ratios.items():
                found.append(took["online"][kind] / took["disabled"][kind])
            off, hole = took["disabled"], took["online"]
            print(f"round {number + 1}: disabled {off['seconds']:.2f} s, unreachable {hole['seconds']:.2f} s", end="")
            print(f", of it waited at the end {hole['waited']:.2f} s", flush=True)
    for kind, found in ratios.items():
        name = {"seconds": "wall time", "cpu": "CPU time of the sweep's process"}[kind]
        print(f"{name}, unreachable / disabled: {statistics.median(found):.3f} ({min(found):.3f} - {max(found):.3f}), n = {len(found)}")


if __name__ == "__main__":
    main()
