"""The results as Markdown have the numbers of the HTML report."""

import re

import pytest

from ddl import launch
from ddl.reports import html, markdown, model

from .synthetic import SAMPLE
from .test_html import text
from .test_model import EXACT, FINAL, REFERENCE


def cells(rendered: str) -> list[list[str]]:
    """The rows of the first table, without escapes."""
    lines = [line for line in rendered.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[re.sub(r"\\(.)", r"\1", cell) for cell in re.split(r" (?<!\\)\| ", line[2:-2])] for line in lines]


def test_every_number_is_that_of_the_page(make_run):
    lost = {("light", 1): ("diverged", "loss 1e9")}
    report = model.build_report([make_run(FINAL, epochs=2, reference=REFERENCE, endings=lost)])
    page = " ".join(re.sub(r"<[^>]+>", " ", text(html.render_html(report))).split())
    head, *rows = cells(markdown.render_markdown(report))
    assert head == ["Configuration", "n", "best val/accuracy, 95% interval", "last val/accuracy, 95% interval", "reference", "verdict"]
    assert [row[0] for row in rows] == list(FINAL)
    assert rows[1][1] == "2 of 3; 1 diverged"
    for row in rows:
        for cell in row[2:4]:
            mean, interval, error = re.fullmatch(r"(\S+) (\[.*?\]); (s\.e\. \S+)", cell).groups()
            assert f"{mean} {interval} {error}" in page
        word, _, why = row[5].partition(": ")
        assert f"{row[4]} {word} {why}" in page
    estimate = report.runs[0].configurations[0].estimates["best val/accuracy"]
    assert f"{estimate.mean:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]" in rows[0][2]


def test_the_setting_has_scale_data_commit_and_machine(make_run):
    rendered = markdown.render_markdown(model.build_report([make_run(FINAL, epochs=2, data=SAMPLE)]))
    setting = next(line for line in rendered.splitlines() if "at paper scale" in line)
    for part in ("CIFAR-10 (sample), bundled sample", "Commit of ddl: 0123456789abcdef (dirty).", "Host: 2 cores, Synthetic CPU"):
        assert part in setting
    assert "> **Not the full data.**" in rendered


def test_text_from_data_cannot_break_the_table(make_run):
    hostile = "a | b\n<b>_x_"
    rendered = markdown.render_markdown(model.build_report([make_run({hostile: 0.8, "none": 0.7}, epochs=1)]))
    assert [row[0] for row in cells(rendered)[1:]] == [r"a | b\n<b>_x_", "none"]
    assert len({len(row) for row in cells(rendered)}) == 1
    assert "<b>" not in rendered.replace("\\<b\\>", "")


def test_the_command_prints_it_or_writes_the_file(make_run, tmp_path, capsys):
    folders = [str(make_run(FINAL, epochs=2, reference=REFERENCE, **EXACT)), str(make_run({"none": 0.5}, epochs=1))]
    command = ["--report", *folders, "--trust", "--format", "markdown"]
    assert launch.main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Augmentation strength")
    assert printed.count("\n## ") == 2
    assert len(cells(printed)) == 4 + 2
    file = tmp_path / "new" / "results.md"
    assert launch.main([*command, "--out", str(file), "--check"]) == launch.NOT_REPRODUCED
    assert file.read_text() == printed
    output, errors = capsys.readouterr()
    assert output == ""
    assert "aggressive: not reproduced (better)" in errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--sweep", "augmentation", "--format", "markdown"), "--format cannot be combined with --sweep, only with --report. Remove it."),
        (("--report", "a", "--format", "markdown", "--out", "s3://b/c"), "Name a file."),
    ],
)
def test_a_format_without_its_report_or_file_is_refused(words, expected, capsys):
    assert launch.main(words) == launch.BAD_INPUT
    assert expected in capsys.readouterr().err
