"""The comparison programs: each runs from beginning to end, and the page has the counts that the command prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ddl
from benchmarks.bring_your_own.__main__ import FOLDER, PROGRAMS, count, seconds, table
from tests.docs import pages
from tests.sweeps.command import launch, run_folder

SMALLER = {"[0.1, 0.01, 0.001]": "[0.1, 0.01]", "range(5)": "range(1)", "seeds=5": 'seeds=1, executor="inline"'}
"""Replacements that make a program small, and let ddl train in its own process."""


@pytest.mark.parametrize(
    "program",
    [
        "lightning_ddl.py",
        *(
            pytest.param(f"{program}.py", marks=pytest.mark.campaign)
            for program in (
                "function_ddl",
                "function_optuna",
                "function_ray",
                "lightning_optuna",
                "lightning_ray",
                "sine_optuna",
                "sine_ray",
            )
        ),
    ],
)
def test_a_program_prints_the_mean_of_each_configuration(tmp_path: Path, program: str):
    if program.startswith("lightning"):
        pytest.importorskip("lightning.pytorch", reason="lightning is not installed: pip install -e '.[lightning]'")
    for shared in ("train.py", "lightning_module.py"):
        (tmp_path / shared).write_bytes((FOLDER / shared).read_bytes())
    text = (FOLDER / program).read_text()
    for long, short in SMALLER.items():
        text = text.replace(long, short)
    (tmp_path / program).write_text(text)
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_"))}  # which ddl sets
    environment = outside | {"PYTHONPATH": str(pages.ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    means = re.findall(r"^(0\.\d+|1\.0+) +(\d\.\d+) +NaN$", done.stdout, re.MULTILINE)
    configurations = [float(configuration) for configuration, _ in means]
    assert configurations == ([0.1, 1.0] if program.startswith("sine") else [0.01, 0.1])
    assert all(0 < float(mean) < 1 for _, mean in means)


def test_the_files_of_the_task_are_those_of_the_page():
    """tests/docs trains the page's."""
    printed = pages.files(pages.ROOT / "docs" / "adding-a-task.md")
    for name in PROGRAMS["A task", "ddl"]:
        assert (FOLDER / name).read_text() == printed[f"my/{name}"]


def test_the_image_folder_takes_eight_lines_without_python():
    """The sweep is that of the page, which tests/sweeps/test_own_data.py trains."""
    printed = pages.files(pages.ROOT / "docs" / "how-to" / "your-own-data.md")["photos.yaml"]
    assert (FOLDER / "photos.yaml").read_text() == printed
    assert count(FOLDER / "photos.yaml") <= 8


def test_each_program_is_run_in_each_round(monkeypatch: pytest.MonkeyPatch):
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda words, cwd, **options: ran.append((words[-1], (cwd / words[-1]).is_file())))
    assert {key: len(measured) for key, measured in seconds(2).items()} == dict.fromkeys(PROGRAMS, 2)
    assert ran == [(files[-1], True) for files in PROGRAMS.values()] * 2


def test_the_page_has_the_printed_table():
    assert table() in (pages.ROOT / "docs" / "comparison.md").read_text()
    assert count(FOLDER / "function_ddl.py") <= 6
    assert sum(count(FOLDER / file) for file in PROGRAMS["A task", "ddl"]) <= 60


def test_comments_and_blank_lines_are_not_counted(tmp_path: Path):
    (tmp_path / "a.py").write_text('"""A module."""\n\n# a comment\nx = [\n    1,\n]\n')
    (tmp_path / "a.yaml").write_text("# a comment\n\na: 1\nb: 2\n")
    assert (count(tmp_path / "a.py"), count(tmp_path / "a.yaml")) == (3, 2)


@pytest.mark.campaign
def test_pytorchs_mnist_example_is_swept(tmp_path: Path):
    reference = f"{FOLDER / 'mnist.py'}:train_mnist"
    overrides = ["lr=1.0,0.0001", "seeds=1", "epochs=1", "metric=test/accuracy"]
    result = launch("--sweep", reference, *overrides, "--executor", "inline", "resources.cpus=1", "wandb.mode=disabled", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = ddl.Run(run_folder(result.stdout, tmp_path)).results.set_index("task.lr")
    assert set(results["status"]) == {"finished"}
    assert results["test/accuracy"][1.0] > 0.5 > results["test/accuracy"][0.0001]
