"""Trials of one process: none finds what another one has left behind, and none ends another one."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from ddl.devices import Device
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.inline_executor import InlineExecutor
from ddl.sweeps.isolation import Isolation
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe import time_pack
from ddl.sweeps.run_pack import run_pack
from ddl.sweeps.worker import run_trial
from ddl.trial_errors import InterruptSignal
from ddl.trial_report import TrialReport

from .plugin.untidy import CHANGES, CHILDREN, Untidy, process_state

CPU = Device(torch.device("cpu"))


def assignment(folder: Path, deed: str, seed: int = 0, steps: int = 4, **changed: float) -> Assignment:
    return Assignment(f"{deed} {seed}", Untidy(seed=seed, deed=deed, steps=steps), 1, 1, 0.0, folder / f"{deed} {seed}", 1000.0, **changed)


def run_in_turn(folder: Path, *deeds: str, **changed: float) -> list[TrialReport]:
    members = tuple(assignment(folder, deed, number, **changed) for number, deed in enumerate(deeds))
    return list(itertools.chain(*run_pack(Pack(members), CPU)))


def numbers(reports: Sequence[TrialReport], trial_id: str) -> list[tuple[float, ...]]:
    """The random numbers of each step of a trial."""
    mine = [report.metrics for report in reports if report.trial_id == trial_id and "val/torch" in report.metrics]
    return [tuple(metrics[f"val/{name}"] for name in ("torch", "numpy", "python")) for metrics in mine]


def ends(reports: Sequence[TrialReport]) -> dict[str, tuple[str, str]]:
    return {report.trial_id: (report.status, report.reason) for report in reports if report.kind == "ended"}


def left_behind(reports: Sequence[TrialReport]) -> list[str]:
    return [report.metadata["left_behind"] for report in reports if "left_behind" in report.metadata]


@pytest.fixture(autouse=True)
def default_interrupts() -> Iterator[None]:
    """Python's handler of Ctrl-C, which a command in the background of a shell does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("deed", CHANGES)
def test_a_change_of_the_process_ends_with_its_trial(deed: str, tmp_path: Path) -> None:
    before = process_state()
    with Isolation():
        CHANGES[deed]()
        if deed != "tf32":  # PyTorch refuses to read it
            assert process_state()[deed] != before[deed], "the change is one that the test sees"
    assert process_state() == before
    reports = run_in_turn(tmp_path, deed)
    assert [status for status, _ in ends(reports).values()] == ["failed" if deed == "default device" else "finished"]
    assert process_state() == before
    assert left_behind(reports) == []


def test_a_change_ends_also_if_the_trial_fails_or_is_stopped_or_probed(tmp_path: Path) -> None:
    before = process_state()
    task = assignment(tmp_path, "working directory", steps=2000)
    time_pack(Pack((task,)), CPU, None, 0.0)
    assert process_state() == before
    reports = run_trial(task, CPU)
    while next(reports).step < 3:
        pass
    assert os.getcwd() == "/"
    reports.close()
    assert process_state() == before


def test_the_driver_keeps_its_working_directory_while_a_trial_has_another(tmp_path: Path) -> None:
    own = os.getcwd()
    with InlineExecutor() as executor:
        for _ in executor.run([Pack((assignment(tmp_path, "working directory"),))], None):
            assert os.getcwd() == own


def test_a_setting_that_cannot_be_restored_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = tmp_path / "start"
    start.mkdir()
    monkeypatch.chdir(start)
    reports = []
    for batch in run_pack(Pack((assignment(tmp_path, "working directory"),)), CPU):
        reports += batch
        shutil.rmtree(start, ignore_errors=True)
    (line,) = left_behind(reports)
    assert line.startswith("the working directory could not be restored (FileNotFoundError")
    assert [status for status, _ in ends(reports).values()] == ["finished"]


def test_a_thread_that_a_trial_leaves_is_named(tmp_path: Path) -> None:
    reports = run_in_turn(tmp_path, "leave a thread", "none")
    assert left_behind(reports) == ["threads that still run: poller"], "of the trial that started it only"
    assert [status for status, _ in ends(reports).values()] == ["finished", "finished"]


def test_a_child_process_that_a_trial_leaves_is_ended_and_named(tmp_path: Path) -> None:
    own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    before = {child.pid for child in psutil.Process().children()}
    try:
        (line,) = left_behind(run_in_turn(tmp_path, "leave a child", "none"))
        assert line.startswith(f"child processes, which were ended: {sys.executable} -c")
        children = psutil.Process().children()
        left = {child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE}
        assert own.pid in left, "an earlier one is left alone"
        assert left <= before
    finally:
        own.kill()
        own.wait()
        CHILDREN.pop().wait()


def test_a_task_that_seeds_nothing_gives_the_same_numbers_alone_and_after_others(tmp_path: Path) -> None:
    alone = numbers(run_in_turn(tmp_path / "alone", "none"), "none 0")
    again = list(run_trial(assignment(tmp_path / "again", "none"), CPU))
    assert numbers(again, "none 0") == alone
    after = list(itertools.chain(*run_pack(Pack((assignment(tmp_path, "none", 1), assignment(tmp_path, "none", 0))), CPU)))
    assert numbers(after, "none 0") == alone
    assert not {*numbers(after, "none 1")} & {*alone}, "another seed gives other numbers"
    assert len({*itertools.chain(*alone)}) == 3 * 4


def test_a_task_that_seeds_nothing_repeats_a_resume_and_no_numbers_of_its_beginning(tmp_path: Path) -> None:
    resumed = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        left = iter([False])
        first = list(run_trial(assignment(folder, "none"), CPU, lambda left=left: next(left, True)))
        torch.rand(7), np.random.rand(7), random.random()
        beginning, again = numbers(first, "none 0"), numbers(list(run_trial(assignment(folder, "none"), CPU)), "none 0")
        assert again[: len(beginning)] == beginning, "measurements that the ledger may have lost"
        resumed.append(again[len(beginning) :])
        assert not {*beginning} & {*resumed[-1]}
    assert resumed[0] == resumed[1]
    assert len(resumed[0]) == 2


def test_an_inline_run_leaves_the_users_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = torch.rand(()).item(), np.random.rand(), random.random()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    with InlineExecutor() as executor:
        executor.probe([Pack((assignment(tmp_path, "none"),))], None, 0.0)
        list(executor.run([Pack((assignment(tmp_path, "none"),))], None))
    assert (torch.rand(()).item(), np.random.rand(), random.random()) == expected


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("raise KeyboardInterrupt", "RuntimeError: the task raised KeyboardInterrupt (untidy.py:"),
        ("raise GeneratorExit", "RuntimeError: the task raised GeneratorExit (untidy.py:"),
        ("return none", "TypeError: Untidy.run returned None instead of an iterator. Write it as a generator"),
        ("return a list", "TypeError: Untidy.run returned a list instead of an iterator. Write it as a generator"),
        ("yield a number", "TypeError: Untidy.run yielded a int instead of a Progress."),
    ],
)
def test_whatever_the_code_of_a_task_does_the_next_trial_is_trained(deed: str, reason: str, tmp_path: Path) -> None:
    ended = ends(run_in_turn(tmp_path, deed, "none"))
    assert ended[f"{deed} 0"][0] == "failed"
    assert ended[f"{deed} 0"][1].startswith(reason)
    assert ended["none 1"] == ("finished", "")
    timings = time_pack(Pack((assignment(tmp_path, deed),)), CPU, None, 0.0)
    assert timings.probes == []
    assert reason.split(" (")[0][:60] in timings.failures[""]


def test_ctrl_c_ends_the_sweep_and_not_only_the_trial(tmp_path: Path) -> None:
    with InlineExecutor() as executor:
        batches = executor.run([Pack((assignment(tmp_path, "none", steps=10**6),))], None)
        next(batches)
        with pytest.raises(InterruptSignal):
            signal.raise_signal(signal.SIGINT)
        batches.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_during_a_step_ends_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHANGES, "interrupted", lambda: signal.raise_signal(signal.SIGINT))
    with InlineExecutor() as executor, pytest.raises(InterruptSignal):
        list(executor.run([Pack((assignment(tmp_path, "interrupted"),))], None))
