"""Sweeps over functions of the user's, from the shell and from Python."""

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ddl
from ddl import launch
from ddl.config import ConfigError
from ddl.devices import Device
from ddl.export import export
from ddl.function_sweep import FunctionSweep, compose_function_sweep, find_function
from ddl.ledger_reader import LedgerReader
from ddl.reproduce import reproduce
from ddl.run_results import Run
from ddl.schema import label
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.failures_alike import FailuresAlike
from ddl.sweeps.pack import Pack
from ddl.sweeps.prepare import RunOptions, prepare_run
from ddl.sweeps.unknown_length import check_length
from ddl.tasks.function import function_task
from ddl.tasks.user_code import changed_sources, locate_module
from ddl.trial_report import TrialReport
from tests.ledgers import edited_ledger

TRAIN = """\
import torch

def train(lr: float, width: int = 64, *, seed: int, device):
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(3):
        yield {"val/accuracy": 1 - lr / (epoch + 1) + 0.01 * torch.rand((), generator=generator)}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which modules are imported from and forgotten after the test."""
    monkeypatch.delitem(sys.modules, "train", raising=False)
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(folder: Path, text: str, name: str = "train.py") -> None:
    (folder / name).write_text(textwrap.dedent(text))


def problems(folder: Path, *overrides: str, text: str = TRAIN, name: str = "train") -> list[str]:
    write(folder, text)
    found: list[str] = []
    if sweep := find_function(f"train.py:{name}", found):
        compose_function_sweep(sweep, overrides, found)
    return found


@pytest.mark.parametrize("reference", ["train.py:train", "train:train"])
def test_a_function_is_swept_from_the_shell(folder, capfd, reference):
    write(folder, TRAIN)
    code = launch.main(["--sweep", reference, "lr=0.1,0.01", "seeds=2", "metric=val/accuracy", "--executor", "inline"])
    output = capfd.readouterr().out
    assert code == 0
    assert "metric: val/accuracy (larger is better)" in output
    assert output.count("train has no argument `resume`") == 1
    (path,) = (folder / "runs/train").iterdir()
    results = Run(path).results
    assert list(results["task.lr"]) == [0.1, 0.01] * 2
    assert set(results["status"]) == {"finished"}
    assert results.groupby("task.lr")["val/accuracy"].mean().to_dict() == pytest.approx({0.1: 0.97, 0.01: 1.0}, abs=0.01)
    assert LedgerReader(path).trials()[0].task["width"] == 64


def test_a_single_value_from_the_shell_is_the_name_and_a_column(folder):
    write(folder, TRAIN)
    run = ddl.run_sweep("train.py:train", ["lr=0.1", "seeds=2", "metric=val/accuracy", "wandb.mode=disabled"], executor="inline")
    assert set(run.results["configuration"]) == {"lr=0.1"}
    assert list(run.results["task.lr"]) == [0.1, 0.1]
    assert "task.width" not in run.results
    page = run.report.read_text()
    assert "“last” is the last measurement." in page
    assert 'data-name="training time"' in page
    assert 'data-name="epoch"' not in page
    assert 'data-name="data"' not in page
    assert "train time (s)" not in page, "it is the training time"


def test_the_commands_that_it_prints_work_from_another_folder(folder, tmp_path_factory, monkeypatch, capfd):
    write(folder, TRAIN.replace("3)", "3) if lr < 1 else fail()"))
    arguments = ["--sweep", "train.py:train", "lr=0.1,2", "seeds=1", "metric=val/accuracy", "--executor", "inline"]
    assert launch.main(arguments) == launch.FAILED
    (path,) = (folder / "runs/train").iterdir()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert launch.main(["--resume", str(path)]) == launch.FAILED
    assert "1 of 2 trials left" in capfd.readouterr().out
    assert reproduce(LedgerReader(path), Run(path).trials[0].trial_id)
    assert "the first 3 steps agree bit for bit" in capfd.readouterr().out


def test_an_error_of_all_trials_stops_the_sweep(folder, capfd):
    write(folder, "def train(lr: float, times: int = 1): return {'loss': lr / 0 if times else lr}")
    options = ["metric=loss", "wandb.mode=disabled", "--executor", "inline"]
    assert launch.main(["--sweep", "train.py:train", "lr=1,2,3,4", "seeds=3", *options]) == launch.BAD_INPUT
    assert (
        capfd.readouterr().err
        == "the first 3 trials fail: ZeroDivisionError: float division by zero (train.py:1).\nThe sweep was stopped.\n"
    )
    (path,) = (folder / "runs/train").iterdir()
    assert [trial.status for trial in Run(path).trials] == ["failed"] * 3 + ["planned"] * 9
    assert launch.main(["--sweep", "train.py:train", "lr=1", "seeds=4", *options]) == launch.BAD_INPUT
    assert "the first 3 trials fail" in capfd.readouterr().err
    assert launch.main(["--sweep", "train.py:train", "lr=1", "times=1,0", "seeds=4", *options]) == launch.FAILED, "one of two fails"
    assert launch.main(["--sweep", "train.py:train", "lr=1", "seeds=2", *options]) == launch.FAILED, "too few to save any"


def test_an_error_of_one_value_waits_for_trials_that_had_started(folder):
    write(folder, TRAIN)
    problems: list[str] = []
    sweep = find_function("train.py:train", problems)
    prepared = prepare_run(replace(sweep, space={"lr": [1, 2, 3, 4]}, metric="loss"), RunOptions((), "", "inline", None), problems)
    assert problems == []
    ids = [trial.trial_id for trial in prepared.trials]

    def failures(started: int) -> FailuresAlike:
        alike = FailuresAlike(prepared, SimpleNamespace(trial=lambda trial_id: next(t for t in prepared.trials if t.trial_id == trial_id)))
        for trial_id in ids[:started]:
            alike.take(TrialReport(trial_id, "started"))
        for trial_id in ids[1:4]:
            alike.take(TrialReport(trial_id, "ended", status="failed", reason="lion"))
        return alike

    with pytest.raises(ConfigError, match="the first 3 trials fail: lion"):
        failures(0)
    failures(4).take(TrialReport(ids[0], "measured", metrics={"loss": 1.0}))
    with pytest.raises(ConfigError, match="the first 4 trials fail: lion"):
        failures(4).take(TrialReport(ids[0], "ended", status="failed", reason="lion"))


def test_numbers_of_numpy_are_numbers(folder):
    run = ddl.sweep(falls, {"lr": np.linspace(0.1, 0.9, 7), "width": [np.int64(4)]}, seeds=1, metric="loss", executor="inline")
    assert run.results["configuration"][1] == "lr=0.23333333333333334, width=4"
    assert list(run.results["task.width"]) == [4] * 7
    assert label(np.float64(7 / 30)) == "0.23333333333333334"


def test_a_default_is_shown_where_other_configurations_have_a_value(folder):
    configurations = {"plain": {"lr": 0.1}, "wide": {"lr": 0.1, "width": 99}}
    run = ddl.sweep(falls, configurations=configurations, seeds=1, metric="loss", executor="inline")
    assert dict(zip(run.results["configuration"], run.results["task.width"], strict=True)) == {"plain": 8, "wide": 99}


def falls(lr: float, width: int = 8):
    return {"loss": lr / width}


def with_names_of_settings(precision: int = 32, batch_size: "int | str | None" = None):
    return {"loss": precision}


def test_parameters_may_have_the_names_of_hyperparameters_of_tasks(folder):
    run = ddl.sweep(
        with_names_of_settings, {"precision": [16, 32], "batch_size": [None, "auto", 8]}, seeds=1, metric="loss", executor="inline"
    )
    assert set(run.results["status"]) == {"finished"}
    assert sorted(run.results["loss"]) == [16] * 3 + [32] * 3


@pytest.mark.parametrize("override", ["early_stopping.scheduler=asha", "search.algorithm=pbt"])
def test_trials_of_unknown_length_cannot_be_compared(override):
    launch = SimpleNamespace(early_stopping=SimpleNamespace(scheduler="asha" if "asha" in override else "none"))
    run = SimpleNamespace(launch=launch, population={} if "asha" in override else {"lr": {}})
    check_length(run, TrialReport("a", "measured", total_steps=3, metrics={"loss": 1.0}))
    with pytest.raises(ConfigError, match=rf"{override.replace('=', ': ')} compares trials after equal parts of their steps"):
        check_length(run, TrialReport("a", "measured", metrics={"loss": 1.0}))


def test_a_changed_function_is_not_resumed_unless_that_is_allowed(folder, capfd):
    text = TRAIN.replace("range(3)", "range(3 if lr < 1 else fail())")
    write(folder, text)
    launch.main(["--sweep", "train.py:train", "lr=0.1,2", "seeds=1", "metric=val/accuracy", "--executor", "inline"])
    (path,) = (folder / "runs/train").iterdir()
    write(folder, text.replace("fail()", "2"))
    del sys.modules["train"]
    assert launch.main(["--resume", str(path)]) == launch.BAD_INPUT
    assert "the code has changed since the run began: train.py" in capfd.readouterr().err
    assert launch.main(["--resume", str(path), "--allow-changed-code"]) == 0
    assert "the code has changed since the run began: train.py" in capfd.readouterr().out
    events = LedgerReader(path).events()
    assert list(events[events.kind == "changed code"].detail) == ["train.py"]


def test_a_function_is_swept_from_python_and_continues_from_its_state(folder):
    seen = []

    def train(lr: float, *, seed, resume=None):
        total = 0.0 if resume is None else resume["total"]
        for epoch in range(0 if resume is None else resume["epoch"], 4):
            total += lr
            seen.append((lr, epoch))
            yield ddl.Progress(metrics={"val/loss": total}, total_steps=4, state=lambda: {"total": total, "epoch": epoch + 1})  # noqa: B023
            if lr == 0.5 and epoch == 1 and seen.count((0.5, 1)) == 1:
                raise RuntimeError("a fault that comes once")

    options = {"metric": "val/loss", "seeds": 1, "executor": "inline", "overrides": ["checkpoint_every_s=0.000001"]}
    run = ddl.sweep(train, {"lr": [0.5, 0.25]}, **options)
    assert dict(zip(run.results["task.lr"], run.results["status"], strict=True)) == {0.5: "failed", 0.25: "finished"}
    resumed = ddl.resume(run.folder, function=train)
    assert list(resumed.results["status"]) == ["finished", "finished"]
    assert list(resumed.results["val/loss"]) == [2.0, 1.0]
    assert seen.count((0.5, 0)) == 1, "it continued from its state"
    assert LedgerReader(run.folder).run()["sweep"]["metric"] == {"name": "val/loss", "mode": "min"}


def test_a_function_that_returns_a_dictionary_is_one_measurement(folder):
    run = ddl.sweep(lambda x: {"score": 2 * x}, {"x": [1, 3]}, metric="score", seeds=1, executor="inline")
    assert list(run.results["score"]) == [2, 6]


def test_a_measurement_that_a_generator_returns_is_its_last(folder):
    write(
        folder,
        """\
        def train(lr):
            yield {"val/loss": lr}
            return {"val/loss": 2 * lr}
        """,
    )
    run = ddl.run_sweep("train.py:train", ["lr=0.1", "seeds=1", "metric=val/loss"], executor="inline")
    curve = run.curves[run.curves["metric"] == "val/loss"]
    assert list(zip(curve["step"], curve["value"], strict=True)) == [(1, 0.1), (2, 0.2)]


def test_an_interrupted_sweep_from_python_is_resumed(folder):
    def train(x, *, resume=None):
        for step in range(0 if resume is None else resume["step"], 4):
            yield ddl.Progress(metrics={"score": x + step}, total_steps=4, state=lambda: {"step": step + 1})  # noqa: B023
            if x == 2 and step == 1 and resume is None:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(ddl.Interrupted, match="interrupted; resume with: ") as stopped:
        ddl.sweep(train, {"x": [1, 2]}, metric="score", seeds=1, executor="inline", overrides=["checkpoint_every_s=0.000001"])
    assert [trial.status for trial in Run(stopped.value.folder).trials] == ["finished", "planned"]
    assert Run(stopped.value.folder).report.exists()
    resumed = ddl.resume(stopped.value.folder, function=train)
    assert list(resumed.results["score"]) == [4, 5]


def test_a_function_typed_into_a_notebook_is_resumed_there(folder, monkeypatch):
    def train(x):
        return {"score": x / 0}

    monkeypatch.setattr(train, "__module__", "__main__")
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    run = ddl.sweep(train, {"x": [1]}, metric="score", seeds=1, executor="inline")
    assert list(run.results["status"]) == ["failed"]
    with pytest.raises(ValueError, match="defined in a notebook, in a class or in another function"):
        ddl.resume(run.folder)
    with pytest.raises(ValueError, match="the code has changed since the run began"):
        ddl.resume(run.folder, function=lambda x: {"score": x})
    assert list(ddl.resume(run.folder, function=lambda x: {"score": x}, allow_changed_code=True).results["score"]) == [1]


def test_what_a_function_of_a_notebook_imports_is_sent_to_a_cluster(folder, monkeypatch):
    write(folder, "SCALE = 3", "settings.py")
    monkeypatch.syspath_prepend(folder)
    import settings

    train = lambda x: {"score": settings.SCALE * x}  # noqa: E731
    monkeypatch.setattr(train, "__module__", "__main__")
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    sweep = FunctionSweep(train, *locate_module(train), {"x": [1]}, {}, metric="score")
    run = prepare_run(sweep, RunOptions((), "", "ray", None), [])
    assert "settings" in run.packages
    name = f"__main__.{train.__qualname__}"
    assert sorted(run.about["code"]) == sorted(["settings.py", name])
    assert changed_sources(run.about["code"], run.about["code_folder"], train) == []
    write(folder, "SCALE = 4", "settings.py")
    assert changed_sources(run.about["code"], run.about["code_folder"], lambda x: None) == sorted(["settings.py", name])


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        ("0.5", "TypeError: train returned float"),
        ("[0.5]", "TypeError: train yielded float. Yield a dictionary of measurements"),
        ("{'val/accuracy': '0.9'}", "TypeError: train yielded 'val/accuracy': str"),
        ("{'val/accuracy': [1, 2]}", "TypeError: train yielded 'val/accuracy': list"),
        ("{1: 2.0}", "TypeError: train yielded 1: float"),
        ("{'epoch': 1}", "ValueError: a metric is called 'epoch', like a column of results.csv"),
    ],
)
def test_a_measurement_that_is_none_fails_the_trial(folder, measured, reason):
    write(folder, f"def train(lr): return {measured}")
    run = ddl.run_sweep("train.py:train", ["lr=0.1", "seeds=1", "metric=val/accuracy"], executor="inline")
    assert run.trials[0].status == "failed"
    assert run.trials[0].reason.startswith(reason)


@pytest.mark.parametrize(
    ("progress", "reason"),
    [
        ("epoch=0.25", "ValueError: the trial yielded the epoch 0.25. It must be a whole number."),
        ("step=1.5", "ValueError: the trial yielded the step 1.5. It must be a whole number."),
        ("step=torch.tensor(3), total_steps=np.int64(5), epoch=np.int32(1)", ""),
        ("metadata={'best': float('inf')}", "ValueError: the trial yielded metadata that cannot be recorded (Out of range float"),
        ("metadata={'changed': True}", ""),
        ("metadata={'size': np.int64(5)}", "ValueError: the trial yielded metadata that cannot be recorded (Object of type int64"),
    ],
)
def test_what_a_ledger_cannot_hold_fails_its_trial_alone(folder, progress, reason):
    write(
        folder,
        f"""\
        import ddl, numpy as np, torch

        def train(lr):
            yield ddl.Progress({progress}, metrics={{"val/loss": lr}}) if lr < 1 else {{"val/loss": lr}}
        """,
    )
    run = ddl.run_sweep("train.py:train", ["lr=0.1,1.0", "seeds=1", "metric=val/loss"], executor="inline")
    first, second = run.trials
    assert (first.status, second.status) == ("failed" if reason else "finished", "finished")
    assert first.reason.startswith(reason)
    assert (run.curves["metric"] == "val/loss").sum() == 2 - bool(reason)


def test_a_step_that_is_measured_twice_is_no_silent_loss(folder):
    """Steps from 0: step 0 counts as omitted, so it is 1."""
    write(
        folder,
        """\
        import ddl

        def train(lr):
            for step in range(3):
                yield ddl.Progress(step=step, metrics={"val/loss": lr * step})
        """,
    )
    run = ddl.run_sweep("train.py:train", ["lr=0.1", "seeds=1", "metric=val/loss"], executor="inline")
    assert run.trials[0].reason.startswith("ValueError: the trial measured val/loss at step 1 after step 1. Steps must increase")


def test_a_parameter_called_precision_is_the_functions_own(folder):
    write(folder, "def train(precision='fp16'): return {'val/auto': float(precision == 'auto')}")
    run = ddl.run_sweep("train.py:train", ["precision=auto,fp32", "seeds=1", "metric=val/auto"], executor="inline")
    assert run.results.set_index("configuration")["val/auto"].to_dict() == {"auto": 1.0, "fp32": 0.0}


def test_a_dictionary_is_a_value_of_an_axis(folder):
    write(folder, "def train(optimiser: dict): return {'val/loss': len(optimiser['name'])}")
    run = ddl.run_sweep("train.py:train", ["optimiser={name: 'adam'},{name: 'sgd'}", "seeds=1", "metric=val/loss"], executor="inline")
    assert sorted(run.results["val/loss"]) == [3.0, 4.0]


def test_one_sample_that_cannot_be_trained_does_not_stop_a_search(folder):
    write(
        folder,
        """\
        from pathlib import Path

        def train(lr: float):
            if Path("first").exists() and Path("first").read_text() != str(lr):
                return {"val/loss": lr}
            Path("first").write_text(str(lr))
            raise ValueError("does not fit")
        """,
    )
    search = ["lr={uniform: [0.0, 1.0]}", "samples=3", "seeds=3", "search.algorithm=tpe", "metric=val/loss"]
    run = ddl.run_sweep("train.py:train", search, executor="inline")
    assert Counter(trial.status for trial in run.trials) == {"failed": 3, "finished": 6}


def test_a_trial_that_can_not_be_trained_again_keeps_its_results(folder):
    write(folder, "def train(lr, noise=0.0): return {'val/loss': lr}")
    run = ddl.run_sweep("train.py:train", ["lr=0.1,0.2", "seeds=1", "metric=val/loss", "noise=0.5"], executor="inline")
    write(folder, "def train(lr): return {'val/loss': lr}")
    del sys.modules["train"]
    with pytest.raises(ValueError, match="does not fit this version of ddl"):
        ddl.resume(run.folder, allow_changed_code=True, again=[run.trials[0].trial_id])
    assert [trial.status for trial in run.trials] == ["finished", "finished"]
    assert (run.curves["metric"] == "val/loss").sum() == 2


def test_changed_code_is_named_by_export_and_reproduce(folder, capfd):
    write(folder, "def train(lr): return {'val/loss': lr}")
    run = ddl.run_sweep("train.py:train", ["lr=0.1", "seeds=1", "metric=val/loss"], executor="inline")
    write(folder, "def train(lr): return {'val/loss': 2 * lr}")
    del sys.modules["train"]
    (trial,) = run.trials
    with pytest.raises(ValueError, match=r"the code has changed since the run began: train\.py\. The exported model would not be the one"):
        export(LedgerReader(run.folder), trial.trial_id)
    with pytest.raises(ValueError, match="yielded no state"):
        export(LedgerReader(run.folder), trial.trial_id, allow_changed_code=True)
    capfd.readouterr()
    assert not reproduce(LedgerReader(run.folder), trial.trial_id)
    printed = capfd.readouterr().out
    assert "different: the code: train.py has changed" in printed
    assert "possible cause: the differences above" in printed


def test_the_recorded_call_makes_the_same_sweep(folder):
    def train(lr):
        return {"val/loss": lr}

    run = ddl.sweep(
        train, {"lr": {"uniform": [0.0, 1.0]}}, metric="val/loss", mode="max", samples=2, seeds=1, executor="inline", title="Higher"
    )
    command = LedgerReader(run.folder).run()["command"]
    assert command == (
        "ddl.sweep(train, {'lr': {'uniform': [0.0, 1.0]}}, metric='val/loss', mode='max', samples=2, title='Higher', overrides=['seeds=1'])"
    )


def test_a_run_without_a_model_cannot_be_exported(folder):
    write(folder, TRAIN)
    run = ddl.run_sweep("train.py:train", ["lr=0.1", "seeds=1", "metric=val/accuracy"], executor="inline")
    with pytest.raises(ValueError, match="the function train yielded no state"):
        export(LedgerReader(run.folder), run.trials[0].trial_id)


def test_mistakes_are_named_together(folder):
    assert problems(folder, "lr=fast", "widht=3", "seed=1") == [
        "command line: widht: unknown key. Did you mean task.width?",
        "command line: seed: unknown key. Did you mean seeds?",
        "metric: missing. Name a measurement that train yields, as in metric=val/accuracy, with metric.mode=min if smaller is better.",
    ]
    assert problems(folder, "samples=many", "metric=loss") == ["command line: samples: should be a valid integer, not 'many'."]
    assert problems(folder, "measurements=x", "metric=loss") == ["measurements: must be a whole number, not 'x'."]
    assert problems(folder, "early_stopping.scheduler=asha", "metric=loss") == [
        "command line: early_stopping.scheduler: asha compares trials after equal parts of their measurements. Say how many one trial "
        "yields, as in measurements=30."
    ]


def test_a_parameter_called_like_a_setting_is_not_chosen_between(folder):
    assert problems(folder, "margin=0.2", "metric=loss", text="def train(margin=1.0): ...") == [
        "command line: margin=0.2: margin is a setting and a parameter of train. Write task.margin=0.2 for the parameter, or rename it."
    ]


def test_population_based_training_needs_a_state_and_the_number_of_measurements(folder):
    options = ["lr={uniform: [0.1, 1.0]}", "samples=4", "metric=loss", "search.algorithm=pbt"]
    without, unknown = problems(folder, *options)[::-1]
    assert without.startswith(
        "command line: search.algorithm: pbt continues a trial from the state of another one, but train has no argument `resume`."
    )
    assert unknown.endswith("Say how many one trial yields, as in measurements=30.")
    del sys.modules["train"]
    assert problems(folder, *options, "measurements=3", text="def train(lr: float, resume=None): pass") == []
    run = prepare_run(find_function("train.py:train", []), RunOptions((*options, "measurements=3"), "", "ray", None), found := [])
    assert (run.population, found) == ({"lr": {"uniform": [0.1, 1.0]}}, [])


def test_a_search_over_a_function_is_interrupted_and_resumed(folder, capfd):
    write(
        folder,
        """\
        import os, signal
        from pathlib import Path

        def train(lr: float):
            for epoch in range(3):
                yield {"val/loss": lr / (epoch + 1)}
                if epoch == 1 and len(list(Path().glob("ended*"))) == 1 and not Path("interrupted").exists():
                    Path("interrupted").touch()
                    os.kill(os.getpid(), signal.SIGINT)
            Path(f"ended-{lr}").touch()
        """,
    )
    search = ["lr={loguniform: [0.01, 1.0]}", "samples=3", "search.algorithm=tpe"]
    arguments = ["--sweep", "train.py:train", *search, "seeds=1", "metric=val/loss", "wandb.mode=disabled", "--executor", "inline"]
    assert launch.main(arguments) == launch.INTERRUPTED
    output = capfd.readouterr().out
    assert "3 trials will be sampled during the sweep." in output
    assert "for timing only" not in output, "a function is not timed"
    (path,) = (folder / "runs/train").iterdir()
    assert [trial.status for trial in Run(path).trials] == ["finished", "planned"]
    assert launch.main(["--resume", str(path)]) == 0
    results = Run(path).results
    assert set(results["status"]) == {"finished"}
    assert results["task.lr"].nunique() == 3
    assert results["task.lr"].between(0.01, 1.0).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def other(): pass", "train has no train."),
        ("def trains(): pass", "train has no train. Did you mean trains?"),
        ("1 / 0", "the module train cannot be imported (ZeroDivisionError: division by zero (train.py:1))."),
        ("import json\njson.loads('')", "the module train cannot be imported (JSONDecodeError: Expecting value: line 1 column 1 (char 0) (train.py:2))."),
        ("import nothing_like_this", "the module train cannot be imported (ModuleNotFoundError: No module named 'nothing_like_this' (train.py:1))."),
        ("def train(*lrs): pass", "train: *lrs has no name that a sweep could give. Name each hyperparameter."),
        ("def train(run): pass", "train: a hyperparameter cannot be called run. Rename it."),
        ("train = 3", "train.train is neither a Task that can be run nor a function of yours."),
        ("async def train(lr): pass", "train: is an async function. Write a plain one, which may call asyncio.run."),
        ("def train(f=len): pass", "train: the default of f is <built-in function len>. A hyperparameter is a number, a text, None, or a list of them."),
        ("def train(lr: Flaot): pass", "train: an annotation cannot be evaluated (name 'Flaot' is not defined). Correct or remove it."),
    ],
)  # fmt: skip
def test_a_function_that_cannot_be_swept_is_explained(folder, text, message):
    if "annotation" in message:
        text = f"from __future__ import annotations\n{text}"
    assert problems(folder, text=text) == [f"--sweep train.py:train: {message}"]


def test_a_missing_file_and_a_taken_name_are_named(folder):
    found: list[str] = []
    find_function("nowhere.py:train", found)
    assert found == ["--sweep nowhere.py:train: there is no file nowhere.py."]
    write(folder, "def train(): pass", "json.py")
    found.clear()
    find_function("json.py:train", found)
    assert "has the name of another module" in found[0]
    found.clear()
    write(folder, "def train(): pass", "a.b.py")
    find_function("a.b.py:train", found)
    assert found == ["--sweep a.b.py:train: the name of the file a.b.py has a dot, so Python cannot import it. Rename it."]
    assert launch.main(["--sweep", "a.b.py"]) == launch.BAD_INPUT


def test_values_are_checked_against_the_annotations(folder):
    write(folder, TRAIN)
    with pytest.raises(ConfigError) as caught:
        ddl.run_sweep("train.py:train", ["lr=fast", "width=1.5", "metric=val/accuracy"], executor="inline")
    assert caught.value.problems == [
        "command line: task.lr: should be a valid number, not 'fast'.",
        "command line: task.width: should be a valid integer, not 1.5.",
    ]
    with pytest.raises(ConfigError, match=r"train.py:3: task.lr: missing. Give it a value."):
        ddl.run_sweep("train.py:train", ["metric=val/accuracy"], executor="inline")


class Optimiser(StrEnum):
    ADAM = "adam"


def accepted(
    lr: float = 1,
    weight_decay: float = None,  # noqa: RUF013 - as many write it
    betas=(0.9, 0.999),
    hidden=[64, 64],  # noqa: B006
    limits: tuple[float, float] | None = (0.0, 1.0),
    blocks: list[tuple[int, int]] = [(1, 2)],  # noqa: B006
    optimiser: Optimiser = Optimiser.ADAM,
): ...


def test_a_task_of_a_record_equals_that_of_the_defaults():
    task = function_task(accepted, "tests.test_function_sweep")(seed=3)
    assert type(task)(**json.loads(json.dumps(asdict(task)))) == task
    assert (task.weight_decay, task.betas, task.blocks, task.optimiser) == (None, (0.9, 0.999), [(1, 2)], Optimiser.ADAM)
    assert type(task)(seed=3, limits=[0.5, 2.0], weight_decay=0.1).limits == (0.5, 2.0)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            "clip: float = float('inf')",
            "the default of clip is inf, but it should be a finite number. Correct the annotation or the default.",
        ),
        ("width: int = 64.5", "the default of width is 64.5, but it should be a valid integer. Correct"),
        ("steps: dict = {1: 0.1}", "the default of steps is {1: 0.1}. A hyperparameter is a number, a text, None, or a list of them."),
        ("lr: 'learning rate'", "an annotation cannot be evaluated (Forward reference must be an expression"),
        ("kind: torch.dtype = None", "the annotation of kind cannot be used (Unable to generate pydantic-core schema for"),
        ("lr: 0.1", "an annotation cannot be used (Unable to generate pydantic-core schema for 0.1). A hyperparameter is"),
    ],
)
def test_a_default_or_annotation_that_cannot_be_used_is_named_before_the_start(folder, parameter, message):
    (problem,) = problems(folder, "metric=val/loss", text=f"import torch\n\ndef train({parameter}): ...")
    assert message in problem


def test_a_function_has_no_scales(folder):
    write(folder, TRAIN)
    with pytest.raises(ConfigError, match="a function has no scales"):
        ddl.run_sweep("train.py:train", ["lr=0.1", "metric=val/accuracy"], scale="smoke", executor="inline")


def test_a_script_without_a_guard_is_not_started_again_when_it_is_resumed(folder):
    write(
        folder,
        """\
        import ddl

        def train(lr):
            yield {"val/loss": lr if lr < 1 else lr / 0}

        ddl.sweep(train, {"lr": [0.1, 1]}, metric="val/loss", executor="inline")
        """,
    )
    subprocess.run([sys.executable, "train.py"], check=True, capture_output=True)
    (path,) = (folder / "runs/train").iterdir()
    with pytest.raises(ValueError, match=r"starts a sweep whenever it is imported. Put that under: if __name__ == '__main__':"):
        ddl.resume(path)


@pytest.mark.slow
def test_a_script_trains_its_function_on_ray_and_a_shell_resumes_it(folder):
    write(
        folder,
        """\
        import ddl
        from settings import SCALE

        def train(lr: float, *, seed, device):
            for step in range(3):
                yield {"val/loss": SCALE * lr / (step + 1) if lr < 1 or step < 2 else lr / 0}

        if __name__ == "__main__":
            ddl.sweep(train, {"lr": [0.1, 2]}, seeds=2, metric="val/loss")
        """,
    )
    write(folder, "SCALE = 3", "settings.py")
    done = subprocess.run([sys.executable, "train.py"], check=True, capture_output=True, text=True)
    assert "0.1 seed 0 finished" in done.stdout
    (path,) = (folder / "runs/train").iterdir()
    assert sorted(LedgerReader(path).run()["code"]) == ["settings.py", "train.py"]
    assert [trial.status for trial in Run(path).trials] == ["finished", "failed"] * 2
    command = [sys.executable, str(Path(launch.__file__).parents[1] / "launch.py"), "--resume", str(path), "--executor", "inline"]
    resumed = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert "2 of 4 trials left" in resumed.stdout
    assert [trial.reason.partition(" (")[0] for trial in Run(path).trials][1::2] == ["ZeroDivisionError: float division by zero"] * 2
    write(folder, "SCALE = 4", "settings.py")
    refused = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert refused.returncode == launch.BAD_INPUT
    assert "the code has changed since the run began: settings.py" in refused.stderr


def test_a_module_that_was_started_by_its_name_is_resumed_by_it(folder):
    package = folder / "study"
    package.mkdir()
    (package / "__init__.py").touch()
    write(package, "SCALE = 3", "settings.py")
    write(
        package,
        """\
        import ddl
        from .settings import SCALE

        def train(lr):
            yield {"val/loss": SCALE * lr if lr < 1 else lr / 0}

        if __name__ == "__main__":
            ddl.sweep(train, {"lr": [0.1, 1]}, metric="val/loss", executor="inline")
        """,
    )
    subprocess.run([sys.executable, "-m", "study.train"], check=True, capture_output=True)
    (path,) = (folder / "runs/train").iterdir()
    assert LedgerReader(path).run()["task_class"] == "study.train.train"
    command = [sys.executable, str(Path(launch.__file__).parents[1] / "launch.py"), "--resume", str(path)]
    assert "3 of 6 trials left" in subprocess.run(command, capture_output=True, text=True, cwd="/").stdout


def test_a_script_that_cannot_be_imported_again_is_refused_before_it_trains(folder):
    text = """\
        import ddl

        def train(lr):
            yield {"val/loss": lr}

        ddl.sweep(train, {"lr": [0.1]}, metric="val/loss", executor="inline")
        """
    write(folder, text, "train.v2.py")
    refused = subprocess.run([sys.executable, "train.v2.py"], capture_output=True, text=True)
    assert "ValueError: the name of the file train.v2.py has a dot, so Python cannot import it to resume. Rename it." in refused.stderr
    assert not (folder / "runs").exists()


def test_what_is_no_function_is_refused(folder):
    class Callable:
        def __call__(self, x):
            return {"score": x}

    for thing in (Callable(), 5, functools.partial(print, 1)):
        with pytest.raises(ValueError, match="takes a function that is defined with def"):
            ddl.sweep(thing, {"x": [1]}, metric="score", executor="inline")


@pytest.mark.parametrize(
    ("space", "configurations", "message"),
    [
        (["x"], {}, "space: must be a dictionary of hyperparameters, not ['x']."),
        ({"x": [1]}, {"a": 5}, "configurations.a: must be a dictionary of hyperparameters, not 5."),
        ({"x": [1]}, ["a", "b"], "configurations: must be a dictionary of names and hyperparameters, not ['a', 'b']."),
        ({}, {1: {"x": 1}, "1": {"x": 2}}, "configurations: [1, '1']: two of them have the same name as text. Rename one."),
        ({"x": [len]}, {}, "space: x: [<built-in function len>] cannot be recorded. Give numbers, texts, and lists of them."),
        ({"y": [1]}, {}, "space: y: the function has no such parameter."),
    ],
)
def test_wrong_arguments_are_explained(folder, space, configurations, message):
    with pytest.raises(ConfigError) as caught:
        ddl.sweep(lambda x=1: {"score": x}, space, configurations=configurations, metric="score", executor="inline")
    assert message in caught.value.problems


def test_the_child_of_a_fork_does_not_go_on_as_a_second_driver(folder):
    def train(x):
        if x == 2 and os.fork() == 0:
            raise RuntimeError("in the child")
        return {"score": x}

    run = ddl.sweep(train, {"x": [1, 2, 3]}, metric="score", seeds=1, executor="inline")
    assert [(trial.status, trial.attempts) for trial in run.trials] == [("finished", 1)] * 3


def test_an_error_is_one_line_that_a_terminal_does_not_obey(folder, capfd):
    def train(x):
        raise ValueError("one\n\ntwo \x1b[31m" + "y" * 5000)

    run = ddl.sweep(train, {"x": [1]}, metric="score", seeds=1, executor="inline")
    (trial,) = run.trials
    assert trial.reason.startswith("ValueError: one two \\x1b[31myyy")
    assert len(trial.reason) < 1100
    assert "\x1b" not in capfd.readouterr().out


def test_a_function_that_is_older_than_its_file_is_refused_until_it_is_imported_again(folder, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the two versions have one time of change
    write(folder, "def train(x):\n    return {'score': x}\n", "reloaded.py")
    monkeypatch.syspath_prepend(folder)
    import reloaded
    from reloaded import train

    options = {"metric": "score", "seeds": 1, "executor": "inline", "overrides": ["wandb.mode=disabled"]}
    run = ddl.sweep(train, {"x": [1]}, **options)
    assert list(run.results["score"]) == [1]
    write(folder, "def train(x):\n    return {'score': 2 * x}\n", "reloaded.py")
    stale = "reloaded.py has changed since train was imported"
    with pytest.raises(ValueError, match=stale):
        ddl.sweep(train, {"x": [1]}, **options)
    with pytest.raises(ValueError, match=stale):
        ddl.resume(run.folder, allow_changed_code=True)
    importlib.reload(reloaded)
    with pytest.raises(ValueError, match=stale):
        ddl.sweep(train, {"x": [1]}, **options)
    assert list(ddl.sweep(reloaded.train, {"x": [1]}, **options).results["score"]) == [2]
    with pytest.raises(ValueError, match=r"the code has changed since the run began: reloaded\.py"):
        ddl.resume(run.folder)


def test_two_sweeps_at_once_in_one_process_are_refused(folder, capfd):
    refused = []

    def train(x):
        def second():
            with pytest.raises(ValueError, match="another thread of this process runs a sweep") as caught:
                ddl.sweep(train, {"x": [2]}, metric="score", seeds=1, executor="inline")
            refused.append(caught)

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        return {"score": x}

    run = ddl.sweep(train, {"x": [1]}, metric="score", seeds=1, executor="inline", overrides=["wandb.mode=disabled"])
    assert list(run.results["status"]) == ["finished"]
    assert len(refused) == 1
    print("the output is restored")
    assert "the output is restored" in capfd.readouterr().out


def test_a_report_says_that_the_code_changed(folder):
    write(folder, TRAIN.replace("range(3)", "range(3 if lr < 1 else fail())"))
    run = ddl.run_sweep("train.py:train", ["lr=0.1,2", "seeds=1", "metric=val/accuracy"], executor="inline")
    write(folder, TRAIN)
    del sys.modules["train"]
    assert "The code changed" not in run.report.read_text()
    ddl.resume(run.folder, allow_changed_code=True)
    assert "The code changed during the run (train.py): not all trials were trained by the same code." in run.report.read_text()


def test_a_metric_that_the_first_measurement_lacks_is_named_at_once(folder, capfd):
    write(folder, TRAIN)
    arguments = ["--sweep", "train.py:train", "lr=0.1", "seeds=2", "metric=val/acuracy", "--executor", "inline"]
    assert launch.main(arguments) == launch.BAD_INPUT
    output, errors = capfd.readouterr()
    warning = "the first measurement has no val/acuracy. Did you mean val/accuracy? The sweep stops if a trial ends without it."
    assert output.splitlines().count(warning) == 1
    assert errors.startswith("metric.name: no trial reports val/acuracy. Did you mean val/accuracy?")


def test_a_metric_of_the_last_measurement_is_no_mistake(folder):
    write(folder, "def train(x):\n    yield {'val/accuracy': x}\n    yield {'test/accuracy': x}\n")
    run = ddl.run_sweep("train.py:train", ["x=1,2", "seeds=1", "metric=test/accuracy"], executor="inline")
    assert list(run.results["test/accuracy"]) == [1, 2]


def test_a_function_that_cannot_be_sent_to_workers_is_named_before_the_start(folder):
    from ddl.sweeps.ray_tune import _check_first

    lock = threading.Lock()

    def train(x):
        with lock:
            return {"score": x}

    task = function_task(train, "__main__")(x=1, seed=0)
    pack = Pack((Assignment("a", task, num_workers=1, cpus=1, gpus=0, folder=folder, checkpoint_every_s=1.0),))
    with pytest.raises(ConfigError, match="train cannot be sent to worker processes"):
        list(_check_first([pack]))


def test_a_function_that_refers_to_much_data_is_refused_before_the_start(folder, monkeypatch):
    from ddl.sweeps import ray_tune

    monkeypatch.setattr(ray_tune, "LARGEST_TASK", 10_000)

    def first(elements):
        data = torch.zeros(elements)
        task = function_task(lambda x: {"score": x + data[0]}, "__main__")(x=1, seed=0)
        pack = Pack((Assignment("a", task, num_workers=1, cpus=1, gpus=0, folder=folder, checkpoint_every_s=1.0),))
        return list(ray_tune._check_first([pack]))

    assert len(first(10)) == 1
    with pytest.raises(ConfigError, match=r"<lambda> refers to 1\d\.\d kB of data, which each trial would send to a worker process."):
        first(2500)


def test_measurements_that_only_the_checkpoint_has_are_recorded_by_a_resume(folder):
    """The ledger was restored from a copy that is older than the trial's last checkpoint."""

    def train(lr, *, resume=None):
        for step in range(0 if resume is None else resume["step"], 3):
            yield ddl.Progress(metrics={"val/loss": lr * step}, total_steps=3, state=lambda: {"step": step + 1})  # noqa: B023

    run = ddl.sweep(train, {"lr": [0.5]}, metric="val/loss", seeds=1, executor="inline", overrides=["checkpoint_every_s=0.000001"])
    with edited_ledger(run.folder) as db:
        db.execute("DELETE FROM metrics WHERE name = 'val/loss' AND step > 1")
        db.execute("UPDATE trials SET status = 'planned'")
    resumed = ddl.resume(run.folder, function=train)
    curve = resumed.curves[resumed.curves["metric"] == "val/loss"].sort_values("step")
    assert list(zip(curve["step"], curve["value"], strict=True)) == [(1, 0.0), (2, 0.5), (3, 1.0)]


def test_a_function_without_resume_starts_again_with_its_first_measurement():
    def train(lr):
        for step in range(3):
            yield ddl.Progress(metrics={"val/loss": lr * step}, state=lambda: {"lost": True})

    task = function_task(train, __name__)(lr=0.5, seed=0)
    progress = list(task.run(Device(torch.device("cpu")), {"step": 2, "state": {}}))
    assert [(each.step, each.metrics["val/loss"]) for each in progress] == [(1, 0.0), (2, 0.5), (3, 1.0)]
    assert {each.state for each in progress} == {None}, "nothing could continue from one"
