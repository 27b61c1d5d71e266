"""The example sweep and the example task of the documentation, as their pages print them, at smoke scale."""

from pathlib import Path

import pytest

from tests.docs import pages
from tests.sweeps.command import Command, command, launch, run_folder

__all__ = ["command"]

FAST = ("--scale", "smoke", "--executor", "inline", "seeds=1", "resources.cpus=1", "latency=none", "wandb.mode=disabled")


def write_files(page: str, folder: Path) -> None:
    for name, content in pages.files(pages.ROOT / "docs" / page).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


@pytest.mark.filterwarnings("default")  # as in the command's own process
def test_the_example_of_a_sweep_runs(command: Command, tmp_path):
    write_files("adding-a-sweep.md", tmp_path)
    result = command("--sweep", "my/dropout.yaml", *FAST, "task.precision=fp32")  # without the timing of precisions
    assert (run_folder(result.stdout, tmp_path) / "results.csv").read_text().count("finished") == 4


def test_the_examples_of_a_task_run(tmp_path):
    write_files("adding-a-task.md", tmp_path)
    result = launch("--sweep", "my/sine_loss.yaml,my/sine_width.yaml", *FAST, "task.epochs=1", cwd=tmp_path)
    for name in ("sine_loss", "sine_width"):
        assert (run_folder(result.stdout, tmp_path) / name / "results.csv").read_text().count("finished") == 2


def test_the_function_of_the_page_runs(tmp_path):
    page = pages.ROOT / "docs" / "how-to" / "your-own-function.md"
    (tmp_path / "train.py").write_text(pages.files(page)["train.py"], encoding="utf-8")
    command = next(words for words in pages.commands(page) if words[0] == "python")
    result = launch(*command[2:], "--executor", "inline", "wandb.mode=disabled", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (run_folder(result.stdout, tmp_path) / "results.csv").read_text().count("finished") == 15


def test_the_example_of_a_task_is_short():
    """At most 60 lines, sweep included: the shortest way to a task of one's own."""
    files = pages.files(pages.ROOT / "docs" / "adding-a-task.md")
    assert len((files["my/sine.py"] + files["my/sine_loss.yaml"]).splitlines()) <= 60
