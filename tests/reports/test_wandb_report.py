"""The W&B Report before it is sent, which needs no network. tests/tracking publishes one."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from wandb_workspaces import expr

import ddl.tracking  # noqa: F401  sets what wandb reads when it is imported
from ddl.reports import model
from ddl.reports.sections import trials
from ddl.reports.wandb_report import WandbGroup, build_wandb_report, wr

from .synthetic import SAMPLE, MakeRun

REFERENCE = {
    "source": "Somebody, Table 1", "metric": "best val/accuracy", "values": {"none": 0.79, "aggressive": 0.60}, "tolerance": 0.02,
    "note": "As printed.",
}  # fmt: skip
PLACE = WandbGroup("someone", "trials-of-ours", 'augmentation it\'s "2026"')
QUOTED = "none | `<b>x</b>` _a_"


def built(folder: Path, clean: Any = str) -> Any:
    return build_wandb_report(model.build_report([folder]), PLACE, clean)


def texts(report: Any) -> list[str]:
    return [block.text for block in report.blocks if isinstance(block, wr.MarkdownBlock)]


def tables(report: Any) -> dict[str, list[list[str]]]:
    """The tables by the first cell of their head row, as rows of cells including the head row."""
    found = [text for text in texts(report) if text.startswith("| ")]
    rows = [[line[2:-2].split(" | ") for line in text.split("\n\n")[0].splitlines() if not line.startswith("| ---")] for text in found]
    return {table[0][0]: table for table in rows}


@pytest.fixture
def report(make_run: MakeRun) -> Any:
    folder = make_run(
        {"none": 0.79, "aggressive": 0.60, "light": 0.78},
        data=SAMPLE,
        reference=REFERENCE,
        endings={("light", 2): ("failed", "ValueError: no such thing")},
    )
    figure = folder / "trials/0000-synthetic/figures/first.kernels.png"
    figure.parent.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(figure)
    return built(folder)


def test_it_has_the_sections_of_the_page_in_its_order(report: Any) -> None:
    headings = [block.text for block in report.blocks if isinstance(block, wr.H2 | wr.H3)]
    assert headings == [
        "Results",
        "Cost",
        "Curves",
        "Paired comparisons",
        "Budget",
        "Trials",
        "Failed and diverged trials",
        "Figures",
        "Plan",
        "Reproduction",
    ]
    assert texts(report)[0].startswith("> **Not the full data.** The data are a sample of CIFAR-10")
    assert (report.entity, report.project) == ("someone", "trials-of-ours")


def results(report: Any) -> list[list[str]]:
    (text,) = [text for text in texts(report) if text.startswith("| Configuration | n |")]
    return [re.split(r" (?<!\\)\| ", line[2:-2]) for line in text.split("\n\n")[0].splitlines() if not line.startswith("| ---")]


def test_results_have_mean_interval_n_reference_and_verdict(report: Any) -> None:
    head, *rows = results(report)
    assert head == ["Configuration", "n", "best val/accuracy, 95% interval", "last val/accuracy, 95% interval", "reference", "verdict"]
    none, aggressive, light = rows
    assert (none[0], none[1], aggressive[1], light[1]) == ("none", "3", "3", "2 of 3; 1 failed")
    assert re.fullmatch(r"0\.\d{4} \\\[0\.\d{4}, 0\.\d{4}\\\]; s\.e\. 0\.0130", none[2])
    assert none[4:] == ["0.7900", "not comparable: on a sample of CIFAR-10 (bundled sample)"]
    assert light[4:] == ["\N{EN DASH}", "no reference"]


def test_every_table_and_figure_says_what_the_data_are(report: Any) -> None:
    of_data = texts(report)[3:]
    assert len(of_data) >= 9
    for text in of_data:
        assert text.endswith("**Data: CIFAR-10 (sample), bundled sample.**"), text


def test_comparisons_say_where_a_difference_is_not_significant(report: Any) -> None:
    rows = tables(report)["Difference"]
    assert {row[-1] for row in rows[1:]} == {"significant", "cannot tell: difference not significant"}
    assert rows[1][0] == "none \N{MINUS SIGN} aggressive"


def test_curves_are_one_plot_a_metric_over_the_runs_of_this_group_alone(report: Any) -> None:
    curves, figures = [block for block in report.blocks if isinstance(block, wr.PanelGrid)]
    assert [plot.y for plot in curves.panels] == [["val/accuracy"], ["train/accuracy"], ["val/loss"], ["train/loss"]]
    assert {(plot.x, plot.groupby.name, plot.groupby_aggfunc) for plot in curves.panels} == {("epoch", "configuration", "mean")}
    assert [panel.media_keys for panel in figures.panels] == [["figures/first_kernels"]]
    for grid in (curves, figures):
        (runs,) = grid.runsets
        assert (runs.entity, runs.project) == ("someone", "trials-of-ours")
        leaf = expr.expr_to_filters(runs.filters)
        assert (leaf.key.section, leaf.key.name, leaf.op, leaf.value) == ("run", "group", "=", PLACE.group)


def test_text_from_data_is_escaped_and_cleaned(make_run: MakeRun) -> None:
    folder = make_run({QUOTED: 0.5}, endings={(QUOTED, 1): ("failed", "in /srv/canary\nsecond | line")})
    report = built(folder, lambda text: text.replace("/srv/canary", "(path)"))
    assert "canary" not in repr(report)
    assert [row[0] for row in results(report)[1:]] == ["none \\| \\`\\<b\\>x\\</b\\>\\` \\_a\\_"]
    (failure,) = [text for text in texts(report) if text.startswith("| configuration | seed | status | reason")]
    assert "in (path) second \\| line" in failure


def test_a_long_trial_table_is_cut_and_says_so(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "MAX_ROWS", 4)
    report = built(make_run({"none": 0.5, "light": 0.6}))
    (text,) = [text for text in texts(report) if text.startswith("| configuration | seed | status | epoch")]
    assert len(text.split("\n\n")[0].splitlines()) == 2 + 4
    assert "2 more are in the run set" in text


def test_a_run_without_a_measurement_has_a_report_too(make_run: MakeRun) -> None:
    report = built(make_run({"none": 0.5}, endings={("none", seed): ("planned", "") for seed in range(3)}))
    assert "No trial has finished yet" in " ".join(texts(report))
