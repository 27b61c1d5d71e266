"""The example sweep and the example task of the documentation, as their pages print them, at smoke scale."""

import sys
from pathlib import Path

import pytest

from ddl.ledger_reader import LedgerReader
from tests.docs import pages
from tests.ledgers import edited_ledger
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


@pytest.mark.filterwarnings("default")  # as in the command's own process
def test_a_run_of_the_example_of_a_task_is_continued_from_another_folder(command: Command, tmp_path, monkeypatch):
    write_files("adding-a-task.md", tmp_path)
    run = run_folder(command("--sweep", "my/sine_loss.yaml", *FAST, "task.epochs=1").stdout, tmp_path).resolve()
    trial_id = LedgerReader(run).trials()[0].trial_id
    with edited_ledger(run) as ledger:
        ledger.execute("UPDATE trials SET status = 'planned' WHERE trial_id = ?", (trial_id,))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delitem(sys.modules, "sine")
    assert "1 of 2 trials left" in command("--resume", str(run)).stdout
    assert "agree bit for bit" in command("--reproduce", str(run / "trials" / trial_id)).stdout
    exported = Path(command("--export", str(run), trial_id).stdout.strip().splitlines()[-1])
    assert exported.exists()

    (tmp_path / "my/sine.py").rename(tmp_path / "my/other.py")
    monkeypatch.delitem(sys.modules, "sine")
    for arguments in (("--resume", str(run)), ("--reproduce", str(run / "trials" / trial_id))):
        (line,) = command(*arguments, exits=2).stderr.splitlines()
        assert "sine" in line
        assert str(tmp_path / "my") in line


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
