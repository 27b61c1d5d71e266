"""Seconds until the command answers, from Enter to its end.

    python benchmarks/start.py [--rounds 5] [--base OTHER_CHECKOUT]

In each round every command runs once, in a new process and an empty folder: `--list`, a mistyped hyperparameter, `--plan`, and the
augmentation sweep at the scale `smoke` (9 trials), inline and on Ray, each once more with the timings of the first time. The last row imports
torch, Ray Tune and pandas. It shows how fast the machine is, and the other times are also given relative to it. With `--base`, the same
commands of another checkout alternate with these.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ddl.sweeps.known_timings import forget_timings

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ["--sweep", "augmentation", "--scale", "smoke", "wandb.mode=disabled"]
AGAIN = ", again"
COMMANDS = {
    "--list": ["--list"],
    "a mistyped hyperparameter": [*SMOKE, "task.lrr=1"],
    "--plan": [*SMOKE, "--plan"],
    "smoke sweep, inline": [*SMOKE, "--executor", "inline"],
    "smoke sweep, inline" + AGAIN: [*SMOKE, "--executor", "inline"],
    "smoke sweep, Ray": SMOKE,
    "smoke sweep, Ray" + AGAIN: SMOKE,
}
IMPORTS = "imports"


def main() -> None:
    """Time the commands and print a table of medians and ranges."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--base", type=Path, help="another checkout of the repository")
    given = parse.parse_args()
    checkouts = {"": ROOT} | ({" (base)": given.base.resolve()} if given.base else {})
    seconds: dict[str, list[float]] = {}
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        for label, checkout in checkouts.items():
            for name, arguments in COMMANDS.items():
                if not name.endswith(AGAIN):
                    forget_timings()
                command = [sys.executable, str(checkout / "launch.py"), *arguments]
                seconds.setdefault(name + label, []).append(time_process(command, checkout))
        command = [sys.executable, "-c", "import torch, ray.tune, pandas"]
        seconds.setdefault(IMPORTS, []).append(time_process(command, ROOT))
    unit = statistics.median(seconds[IMPORTS])
    print(f"| command | median of {given.rounds} (s) | range (s) | relative to the imports |\n|---|--:|--:|--:|")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| {name} | {median:.2f} | {min(times):.2f} to {max(times):.2f} | {median / unit:.2f} |")


def time_process(command: list[str], checkout: Path) -> float:
    """Run a command in an empty folder, with the code of `checkout`; returns its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(checkout)}, capture_output=True, text=True)
        elapsed = time.perf_counter() - began
    if done.returncode not in (0, 2):
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return elapsed


if __name__ == "__main__":
    main()
