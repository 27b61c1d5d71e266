"""Counts the lines that a sweep of existing code needs with each library: `python -m benchmarks.bring_your_own`.

Blank lines, comments and docstrings are not counted, and neither is the training function of `train.py`, which is the same for all.
"""

from pathlib import Path

from tests.codebase import lines_of_code

FOLDER = Path(__file__).parent
PROGRAMS = {
    ("A function", "ddl"): ["function_ddl.py"],
    ("A function", "Ray Tune"): ["function_ray.py"],
    ("A function", "Optuna"): ["function_optuna.py"],
    ("A task", "ddl"): ["sine.py", "sine_loss.yaml"],
    ("A task", "Ray Tune"): ["sine_ray.py"],
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


if __name__ == "__main__":
    print(table())
