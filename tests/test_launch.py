"""The command answers a simple question without heavy imports, and refuses options that it cannot use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddl import launch, program
from ddl.command_line import ACTIONS, USED_WITH, parser
from ddl.sweeps.new_run import resume_command
from ddl.tracking.follower_process import publish_command
from tests.sweeps.command import ROOT

SCRIPT = "import sys; from ddl.launch import main; code = main(sys.argv[1:]); print(code, *sorted(sys.modules))"


@pytest.mark.parametrize(
    ("arguments", "code", "heavy"),
    [
        (["--list"], 0, ("torch", "pydantic", "hydra", "ray", "pandas")),
        (["--report"], 2, ("torch", "pydantic", "hydra", "ray", "pandas")),
    ],
    ids=["list", "nothing to report"],
)
def test_heavy_imports_wait_until_they_are_needed(arguments: list[str], code: int, heavy: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    returned, *modules = done.stdout.splitlines()[-1].split()
    assert int(returned) == code, done.stderr
    assert set(heavy).isdisjoint(modules)


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accepted command returns 0 at once: a check that is broken must not start a sweep."""
    monkeypatch.setattr(launch, "_run_action", lambda *_: 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that is refused."""
    assert launch.main(arguments) == launch.BAD_INPUT
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--swep", "augmentation"], "--swep: unknown option. Did you mean --sweep?"),
        (["--swep=augmentation"], "--swep: unknown option. Did you mean --sweep?"),
        (["--sweep", "augmentation", "--scal", "smoke"], "--scal: unknown option. Did you mean --scale?"),
        (["--sweep", "augmentation", "--executor", "inlin"], "--executor: 'inlin' is unknown. Did you mean inline?"),
        (["--sweep", "augmentation", "--scale", "huge"], "--scale: 'huge' is unknown. Use smoke, sample, paper."),
        (["-sweep", "augmentation"], "-sweep: unknown option. Did you mean --sweep?"),
        (["--sweep", "augmentation", "--qqq"], "--qqq: unknown option. See --help. A hyperparameter is written task.qqq=VALUE."),
        (["--sweep", "augmentation", "--lr=0.1"], "--lr: unknown option. See --help. A hyperparameter is written task.lr=0.1."),
        (["--sweep", "augmentation", "--seeds=5"], "--seeds: settings are written without dashes: seeds=5."),
        (["--sweep", "augmentation", "--task.lr", "0.1"], "--task.lr: settings are written without dashes: task.lr=VALUE."),
        (["augmentation"], "augmentation: write --sweep augmentation."),
        (["my/own.yaml", "seeds=5"], "my/own.yaml: write --sweep my/own.yaml."),
        (["augmentaton"], "augmentaton: unknown. Write --sweep and the name of a sweep. Did you mean augmentation?"),
        (["list"], "list: write --list."),
        (["\N{EM DASH}sweep", "augmentation"], "\N{EM DASH}sweep: write --sweep."),
        (["sweep=augmentation"], "sweep=augmentation: write --sweep."),
        ([str(ROOT)], f"{ROOT}: write --resume {ROOT} to finish this run, or --report {ROOT} for its report."),
    ],
)
@pytest.mark.usefixtures("nothing_runs")
def test_a_mistyped_option_is_answered_with_the_right_one(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert refused(capsys, *arguments) == said


VALUES = {
    "--scale": ["smoke"],
    "--steps": ["3"],
    "--executor": ["inline"],
    "--address": ["auto"],
    "--again": ["id"],
    "--out": ["folder"],
    "--format": ["html"],
}
ACTION_VALUES = {"--list": [], "--export": ["run", "id"], "--prepare-data": ["mnist"]}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("option", USED_WITH)
@pytest.mark.usefixtures("nothing_runs")
def test_an_option_that_does_not_belong_to_the_action_is_refused(capsys: pytest.CaptureFixture[str], action: str, option: str) -> None:
    given = ["seeds=5"] if option == "KEY=VALUE" else [option, *VALUES.get(option, [])]
    values = ACTION_VALUES.get(action, ["run", "other"] if action == "--report" else ["run"])
    arguments = [*given, action, *values]
    actions = USED_WITH[option]
    if action in actions:
        assert launch.main(arguments) == 0
    else:
        assert refused(capsys, *arguments) == f"{given[0]} cannot be combined with {action}, only with {' or '.join(actions)}. Remove it."


def test_each_option_is_an_action_or_belongs_to_one() -> None:
    options = {action.option_strings[-1] for action in parser()._actions if action.option_strings}
    assert options - {"--help"} == {*ACTIONS, *USED_WITH} - {"KEY=VALUE"}


@pytest.mark.parametrize("option", ["--sweep", "--resume", "--reproduce", "--publish", "--report", "--prepare-data", "--out", "--address"])
@pytest.mark.usefixtures("nothing_runs")
def test_an_empty_value_is_refused(capsys: pytest.CaptureFixture[str], option: str) -> None:
    sweep = ["--sweep", "augmentation"] if option in USED_WITH else []
    assert refused(capsys, *sweep, option, "") == f"{option}: the value is empty. Name one, or remove {option}."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sweep", "a", "--sweep=b"], "--sweep: given more than once. Give it once. Name several sweeps with commas."),
        (["--report", "a", "--report", "b"], "--report: given more than once. Give it once."),
        (["--report", "a", "--sweep", "b"], "--report cannot be combined with --sweep. Use it alone, or with --publish RUN."),
        (["--report", "a", "--out", "b"], "--out: the report of a single run is written to the folder of the run. Remove --out."),
        (
            ["--report", "a", "b", "--out", "s3://c/d"],
            "--out s3://c/d: a report over several runs is written to a local folder. Name one.",
        ),
    ],
)
@pytest.mark.usefixtures("nothing_runs")
def test_options_that_would_be_ignored_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert refused(capsys, *arguments) == said


def test_an_address_is_refused_if_the_executor_has_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--sweep", "augmentation", "--scale", "smoke", "--executor", "inline", "--address", "auto", "--plan")
    assert said.splitlines() == [
        "--address auto: inline trains in this process, without a cluster. Remove --address or --executor inline.",
        "Nothing was started.",
    ]


@pytest.mark.parametrize(
    ("argv", "called"),
    [
        (["launch.py"], "python launch.py"),
        ([str(ROOT / "launch.py")], f"python {ROOT}/launch.py"),
        (["../a b/launch.py"], "python '../a b/launch.py'"),
        ([str(ROOT / "ddl" / "launch.py")], "python -m ddl.launch"),
        (["/usr/local/bin/ddl"], "ddl"),
        (["-c"], f"python {ROOT}/launch.py"),
        (["/usr/bin/pytest"], f"python {ROOT}/launch.py"),
    ],
)
def test_the_program_calls_itself_what_it_was_called(argv, called, monkeypatch, tmp_path, capsys) -> None:
    (tmp_path / "a b").symlink_to(ROOT)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(ROOT if argv == ["launch.py"] else tmp_path / "cwd")
    monkeypatch.setattr("sys.argv", argv)
    commands: list[str] = []
    monkeypatch.setattr(launch, "_run_action", lambda given, command: commands.append(command) or 0)
    launch.main(["--sweep", "augmentation", "task.lr=0.1,0.2"])
    assert commands == [f"{called} --sweep augmentation task.lr=0.1,0.2"]
    assert resume_command("runs/a b") == f"{called} --resume 'runs/a b'"
    assert publish_command(Path("runs/a")) == f"{called} --publish runs/a"
    with pytest.raises(SystemExit):
        launch.main(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: {called} [")


def test_an_installed_package_has_no_launch_py(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(program, "__file__", str(tmp_path / "ddl" / "program.py"))
    monkeypatch.setattr("sys.argv", ["/usr/bin/jupyter"])
    assert program.program() == "ddl"


def test_an_interrupted_command_says_so_without_a_traceback(monkeypatch, capsys) -> None:
    def interrupted(given, command):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_run_action", interrupted)
    assert launch.main(["--sweep", "augmentation", "--plan"]) == launch.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
