"""Odd values of an honest task, and odd records of a received run, end in a message, or in a page that shows them as recorded."""

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from ddl import checkpoints
from ddl.ledger_reader import LedgerReader
from ddl.reports import html, model, results
from ddl.units import duration
from tests.sweeps.command import command

from .ledgers import ReportingLedger
from .test_foreign_runs import alter, begun, page_lines, prepare_actions, refused

__all__ = ["command"]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = begun(tmp_path / "run")
    with ReportingLedger(folder) as opened:
        for trial in opened.trials():
            opened.started(trial.trial_id, 0, "here cpu")
            opened.measured(trial.trial_id, 1, 1, 0.5, {"val/accuracy": 0.5, "train/loss": 2.0, "time/x_s": 1.0}, {"total_steps": 1})
            opened.ended(trial.trial_id, "finished")
    return folder


NO_VALUE = (
    "No trial has a value of val/accuracy (3 finished).",
    "none | 0 of 1; 1 without a value | - | - |",
    "none - light (n = 0) | - | - |",
)
FAR_APART = "UPDATE metrics SET value = CASE WHEN seq % 2 THEN 1e308 ELSE -1e308 END"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE metrics SET value = 1e308",
            (*NO_VALUE, "none | - | 0.5 s |", "none | 0 | finished | 1 | 1.000e+308 | 1.000e+308 | 1.000e+308 | 0.5 s |"),
        ),
        (FAR_APART, (*NO_VALUE, "light | 0 | finished | 1 | -1.000e+308 | -1.000e+308 | 1.000e+308 | 0.5 s |")),
        ("UPDATE metrics SET value = 9e999, elapsed_s = 9e999", (*NO_VALUE, "none | 0 | finished | 1 | ∞ | ∞ | ∞ | unknown |")),
        ("UPDATE metrics SET elapsed_s = -1e308", ("Configuration | best validation accuracy | x time (s) |", "none | 0.5000 | 1.0000 |")),
        ("UPDATE trials SET started_at = 9e999, ended_at = -9e999", ("Took unknown (from the start",)),
        ("""UPDATE trials SET metadata = '{"data": "mine", "parameters": "many", "precision": {}, "stacked": "a"}'""", ()),
        ("""UPDATE trials SET metadata = '{"data": {"name": [], "train": "x"}, "parameters": 99999999999999999999}'""", ()),
        ("""UPDATE trials SET swept = '{"task.augmentation": 123456789012345678901234567890}'""", ()),
    ],
)
def test_an_odd_value_counts_in_no_mean(trained, statement, expected):
    """The page shows the `expected` texts, which it did not show before. Without them it shows nothing else than before."""
    before = page_lines(html.render_html(model.build_report([trained])))
    alter(trained, statement)
    changed = [line for line in page_lines(html.render_html(model.build_report([trained]))) if line not in before]
    for text in expected:
        assert any(line.startswith(text) for line in changed), f"{text} is not in {changed}"
    assert expected or not changed
    results.write_results(trained)
    assert len(pd.read_parquet(trained / "results.parquet")) == 3


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE metrics SET value = 1e308",
        FAR_APART,
        "UPDATE metrics SET value = 9e999, elapsed_s = 9e999",
        "UPDATE metrics SET elapsed_s = -1e308",
    ],
)
def test_a_browser_can_read_the_data_of_plots_with_odd_values(trained, statement):
    alter(trained, statement)
    page = html.render_html(model.build_report([trained]))
    islands = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)
    assert islands
    for island in islands:
        json.loads(island, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


@pytest.mark.parametrize("name", ["epoch", "best val/accuracy", "a\x1b[2J", ""])
def test_a_metric_that_would_break_the_tables_ends_its_trial_with_a_message(command, tmp_path, name, request):
    module = f"odd_{request.node.callspec.indices['name']}"
    (tmp_path / f"{module}.py").write_text(
        f"def train(lr=0.1):\n    yield {{'val/accuracy': 0.5}}\n    yield {{{name!r}: 1.0, 'val/accuracy': 1.0}}\n"
    )
    done = command(
        "--sweep",
        f"{module}.py:train",
        "metric=val/accuracy",
        "seeds=1",
        "lr=0.1,0.2",
        "wandb.mode=disabled",
        "--executor",
        "inline",
        exits=1,
    )
    assert "a metric is called" in done.stdout
    assert "\x1b" not in done.stdout
    (folder,) = (tmp_path / "runs/train").iterdir()
    assert "a metric is called" in (folder / "results.csv").read_text()


def test_no_cell_of_the_csv_file_is_a_formula(trained):
    texts = ["=1+1", "+1+1", "-x", "@SUM(A1)", "-1.5", "+2e-3", "plain"]
    for text, trial in zip(texts, LedgerReader(trained).trials(), strict=False):
        alter(trained, "UPDATE trials SET configuration = ?, reason = ? WHERE trial_id = ?", text, text, trial.trial_id)
    alter(trained, "UPDATE metrics SET value = -0.5, name = '=loss' WHERE name = 'train/loss'")
    results.write_results(trained)
    rows = list(csv.DictReader(io.StringIO((trained / "results.csv").read_text())))
    expected = ["'=1+1", "'+1+1", "'-x", "'@SUM(A1)", "-1.5", "+2e-3", "plain"][: len(rows)]
    assert [row["configuration"] for row in rows][: len(expected)] == expected
    assert {row["'=loss"] for row in rows} == {"-0.5"}


def test_what_a_terminal_obeys_is_text_in_names_and_reasons(trained):
    alter(trained, "UPDATE trials SET configuration = ?, reason = ?, status = 'failed'", "a\x1b[31m\nb", "\x1b]0;title\x07")
    trial = LedgerReader(trained).trials()[0]
    assert (trial.configuration, trial.reason) == (r"a\x1b[31m\nb", r"\x1b]0;title\x07")


@pytest.mark.parametrize("column", ["step", "epoch"])
def test_a_number_of_no_step_is_refused(trained, capsys, column):
    alter(trained, f"UPDATE metrics SET {column} = -9223372036854775808 WHERE seq = 1")
    assert "row 1 of metrics: the step or epoch is not a number from 0 to 2^53" in refused(capsys, "--report", str(trained))


def test_a_checkpoint_with_other_tensors_is_named(trained, capsys):
    trial_id = prepare_actions(trained)
    checkpoints.store(trained / "trials" / trial_id / "checkpoints", trial_id, 2, {"task": {"learner": {"model": {}}, "step": 1}})
    said = refused(capsys, "--export", str(trained), trial_id)
    assert "the newest checkpoint does not fit the trial's task" in said


def test_infinite_times_are_unknown():
    assert duration(float("inf")) == duration(float("-inf")) == "unknown"
