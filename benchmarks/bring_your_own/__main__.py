"""Counts the lines that a sweep of existing code needs with each library: `python -m benchmarks.bring_your_own`.

Blank lines, comments and docstrings are not counted, and neither are `train.py` and `lightning_module.py`, which are the same for all.
`--seconds N` also runs each program N times, in turn, and prints the median and the range of the whole command's seconds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copytree
from statistics import median

import numpy as np
from PIL import Image

from tests.codebase import lines_of_code

FOLDER = Path(__file__).parent
PROGRAMS = {
    ("A function", "ddl"): ["function_ddl.py"],
    ("A function", "Ray Tune"): ["function_ray.py"],
    ("A function", "Optuna"): ["function_optuna.py"],
    ("A Lightning module", "ddl"): ["lightning_ddl.py"],
    ("A Lightning module", "Ray Tune"): ["lightning_ray.py"],
    ("A Lightning module", "Optuna"): ["lightning_optuna.py"],
    ("A task", "ddl"): ["sine.py", "sine_loss.yaml"],
    ("A task", "Ray Tune"): ["sine_ray.py"],
    ("A task", "Optuna"): ["sine_optuna.py"],
    ("An image folder", "ddl"): ["photos.yaml"],
}
"""Files of each program, by what it sweeps and the library."""


def count(path: Path) -> int:
    """Lines of a Python or YAML file with code on them."""
    if path.suffix == ".py":
        return lines_of_code(path)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in path.read_text(encoding="utf-8").splitlines())


def table() -> str:
    """Lines and files of each program, in Markdown."""
    rows = ["| to sweep | library | lines | files |", "|---|---|--:|--:|"]
    for (what, library), files in PROGRAMS.items():
        rows.append(f"| {what} | {library} | {sum(count(FOLDER / file) for file in files)} | {len(files)} |")
    return "\n".join(rows)


def command(files: Sequence[str]) -> list[str]:
    """The command that runs the program of these files."""
    if files[-1].endswith(".yaml"):
        return [sys.executable, "-m", "ddl.launch", "--scale", "sample", "--sweep", files[-1]]
    return [sys.executable, *files]


def write_photos(folder: Path) -> None:
    """Images of noise for `photos.yaml`, 100 in each of two classes."""
    rng = np.random.default_rng(0)
    for name, level in (("day", 180), ("night", 60)):
        (folder / name).mkdir(parents=True)
        for number in range(100):
            pixels = rng.normal(level, 30, (64, 64, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def seconds(rounds: int) -> Mapping[tuple[str, str], list[float]]:
    """Seconds from the start to the end of each program. All run once in each round, in a folder without earlier results."""
    measured: dict[tuple[str, str], list[float]] = {key: [] for key in PROGRAMS}
    for _ in range(rounds):
        for key, files in PROGRAMS.items():
            with tempfile.TemporaryDirectory() as scratch:
                folder = copytree(FOLDER, Path(scratch) / "programs")
                write_photos(folder / "photos")
                began = time.perf_counter()
                subprocess.run(command(files), cwd=folder, check=True, stdout=subprocess.DEVNULL)
                measured[key].append(time.perf_counter() - began)
    return measured


def main() -> None:
    """Print the lines, and with `--seconds` the durations."""
    parse = argparse.ArgumentParser(description="Count the lines of the same sweeps with several libraries, and time them.")
    parse.add_argument("--seconds", metavar="N", type=int, default=0, help="run each program N times and print its seconds")
    rounds = parse.parse_args().seconds
    print(table())
    for (what, library), each in seconds(rounds).items() if rounds else ():
        print(f"{what}, {library}: {median(each):.0f} s ({min(each):.0f} to {max(each):.0f}, n = {len(each)})")


if __name__ == "__main__":
    main()
