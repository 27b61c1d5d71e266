"""The example sweep and the example task of the documentation, as their pages print them, at smoke scale."""

import pytest

from tests.docs import pages
from tests.sweeps.command import launch, run_folder

FAST = ("--scale", "smoke", "--executor", "inline", "seeds=1", "resources.cpus=1", "latency=none", "wandb.mode=disabled")


@pytest.mark.parametrize(
    ("page", "sweep", "more", "trials"),
    [
        ("adding-a-sweep.md", "my/dropout.yaml", ["task.precision=fp32"], 4),  # without the timing of precisions
        ("adding-a-task.md", "my/sine_loss.yaml", ["task.epochs=1"], 2),
        ("adding-a-task.md", "my/sine_width.yaml", ["task.epochs=1"], 2),
    ],
)
def test_example_runs(tmp_path, page, sweep, more, trials):
    for name, content in pages.files(pages.ROOT / "docs" / page).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    result = launch("--sweep", sweep, *FAST, *more, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (run_folder(result.stdout, tmp_path) / "results.csv").read_text().count("finished") == trials


def test_the_function_of_the_page_runs(tmp_path):
    page = pages.ROOT / "docs" / "how-to" / "your-own-function.md"
    (tmp_path / "train.py").write_text(pages.files(page)["train.py"], encoding="utf-8")
    (command,) = [words for words in pages.commands(page) if words[0] == "python"]
    result = launch(*command[2:], "--executor", "inline", "wandb.mode=disabled", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (run_folder(result.stdout, tmp_path) / "results.csv").read_text().count("finished") == 15


def test_the_example_of_a_task_is_short():
    """At most 60 lines, sweep included: the shortest way to a task of one's own."""
    files = pages.files(pages.ROOT / "docs" / "adding-a-task.md")
    assert len((files["my/sine.py"] + files["my/sine_loss.yaml"]).splitlines()) <= 60
