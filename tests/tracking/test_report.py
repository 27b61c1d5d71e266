"""`--publish RUN --report`, to the server on the loopback, and the command's grammar around it."""

import json
from pathlib import Path

import pytest

from ddl.launch import main
from tests.tracking.conftest import create, picture, whole
from tests.tracking.server import Server


@pytest.fixture
def run(folder: Path) -> Path:
    with create(folder) as ledger:
        whole(ledger, "t0")
        whole(ledger, "t1", status="failed", reason=f"FileNotFoundError: '{folder}/canary.bin'")
    picture(folder, "t0", "kernels.png")
    return folder


def test_a_report_is_published_with_its_trials_and_again_in_place(run: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--publish", str(run), "--report"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("W&B (online): 2 trials, 2 of them with 6 new rows")
    assert said[-1].startswith("report: http")
    assert "/someone/trials-of-ours/reports/" in said[-1]
    (report,) = server.reports.values()
    assert (report["entityName"], report["projectName"], report["type"]) == ("someone", "trials-of-ours", "runs")
    spec = json.dumps(json.loads(report["spec"]))
    for expected in (
        "Results",
        "| Configuration |",
        "val/accuracy",
        "augmentation 2026-03-01-093000",
        "figures/kernels",
        "Not the full data",
    ):
        assert expected in spec
    assert "canary" not in spec
    assert str(run) not in spec

    assert main(["--publish", str(run), "--report"]) == 0
    assert len(server.reports) == 1
    assert "2 trials, 0 of them with 0 new rows" in capsys.readouterr().out


def test_without_a_login_nothing_is_published(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--publish", str(run), "--report"]) == 2
    output = capsys.readouterr()
    assert output.err == "W&B: online needs a key and there is none. Set WANDB_API_KEY, run `wandb login`, or choose wandb.mode=offline.\n"
    assert output.out == ""
    assert not (run / "wandb").exists()


def test_a_run_that_has_not_begun_has_no_report(folder: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    create(folder)._db.close()
    assert main(["--publish", str(folder), "--report"]) == 2
    assert "no trial has started, so there is nothing to report" in capsys.readouterr().err
    assert server.reports == {}


def test_a_report_that_the_server_refuses_is_said_in_a_line(
    run: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Server.answer

    def refusing(self: Server, query: str, variables: dict[str, object]) -> dict[str, object]:
        if "upsertView" in query:
            raise PermissionError("no more reports for you")
        return answer(self, query, variables)

    monkeypatch.setattr(Server, "answer", refusing)
    assert main(["--publish", str(run), "--report"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("W&B: the trials are published, the report is not (")
    assert "no more reports for you" in line
    assert not (run / "wandb/report.json").exists()


def test_a_report_alone_takes_runs_as_before(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--report", str(run)]) == 0
    headline, last = capsys.readouterr().out.splitlines()
    assert " leads on best validation accuracy: " in headline
    assert last == f"report: {run}/report.html"
    assert main(["--report", str(run), str(run), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {tmp_path}/report.html"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--report"], "--report: name one or several runs."),
        (["--publish", "a", "--report", "b"], "--publish RUN --report is about that one run. Remove b, or publish each."),
        (["--sweep", "augmentation", "--report"], "--report cannot be combined with --sweep. Use it alone, or with --publish RUN."),
        (["--list", "--report", "a"], "--report cannot be combined with --list. Use it alone, or with --publish RUN."),
        (["--publish", "a", "--steps", "3"], "--steps cannot be combined with --publish, only with --reproduce. Remove it."),
        (
            [],
            "nothing to do: name one of --sweep, --list, --resume, --confirm, --reproduce, --publish, --export, --prepare-data, --report. See --help.",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", f"{said}\n")
