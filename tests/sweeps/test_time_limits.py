"""Trials that take too long or hang: in Python, outside it, alone, in packs and stacks, under both executors."""

import itertools
import re
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddl.devices import Device
from ddl.ledger_reader import LedgerReader
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe import time_pack
from ddl.sweeps.run_pack import run_pack
from ddl.sweeps.time_limits import TimeLimits, hang_log
from ddl.trial_errors import TrialTimeout
from tests.waiting import HANG_S

from .command import PLUGIN, launch, run_folder
from .plugin.together import Together
from .plugin.untidy import spin
from .test_isolation import assignment, ends, run_in_turn

CPU = Device(torch.device("cpu"))
UNTIDY = str(PLUGIN / "untidy.yaml")
SHORT_S = 0.3
"""A limit for code that hangs."""

ENOUGH_S = 2.0
"""A limit that code that does not hang keeps, also on a busy machine."""


def catch_and_return() -> None:
    try:
        spin()
    except BaseException:  # noqa: BLE001
        return


def catch_and_raise() -> None:
    try:
        spin()
    except BaseException as error:
        raise ValueError("another") from error


def in_thread(code: Callable[[], object]) -> list[BaseException]:
    """The error that `code` raises in another thread."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            code()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(HANG_S)
    assert not thread.is_alive()
    return raised


@pytest.mark.parametrize("code", [spin, catch_and_return, catch_and_raise, lambda: time.sleep(3600)])
def test_a_step_without_an_end_is_interrupted_in_the_main_thread(code: Callable[[], None], capfd: pytest.CaptureFixture) -> None:
    with (
        TimeLimits(stall_s=SHORT_S) as limits,
        pytest.raises(TrialTimeout, match=r"no sign of life for 0.3 s, at test_time_limits.py:|at untidy"),
    ):
        limits.step(code)
    assert re.search(r"Its last stack:\n  File \"\S+(untidy|test_time_limits)\.py\", line", capfd.readouterr().err)


@pytest.mark.parametrize("code", [spin, catch_and_return, catch_and_raise])
def test_a_step_without_an_end_is_interrupted_in_another_thread(code: Callable[[], None]) -> None:
    given_up: list[str] = []

    def watched() -> None:
        with TimeLimits(stall_s=SHORT_S, give_up=given_up.append) as limits:
            assert limits.step(lambda: 3) == 3
            limits.step(code)

    (error,) = in_thread(watched)
    assert isinstance(error, TrialTimeout)
    assert given_up == []
    assert " in spin" in str(error)


def test_the_message_names_the_last_lines() -> None:
    with TimeLimits(stall_s=SHORT_S, advice="!") as limits, pytest.raises(TrialTimeout) as raised:
        limits.step(catch_and_return)
    assert str(raised.value).startswith("no sign of life for 0.3 s, at untidy.py:")
    assert " in spin, called at test_time_limits.py:" in str(raised.value)
    assert str(raised.value).endswith(" in catch_and_return!")


def test_steps_are_signs_of_life_and_the_time_between_them_does_not_count() -> None:
    with TimeLimits(stall_s=ENOUGH_S) as limits:
        for _ in range(5):
            limits.step(lambda: time.sleep(ENOUGH_S / 4))
        time.sleep(1.5 * ENOUGH_S)
        assert limits.step(lambda: 1) == 1


def test_an_attempt_that_takes_too_long_is_interrupted_at_its_next_step() -> None:
    steps = 0

    def all_steps(limits: TimeLimits) -> None:
        nonlocal steps
        while True:
            limits.step(lambda: time.sleep(0.01))
            steps += 1

    with TimeLimits(trial_s=ENOUGH_S) as limits, pytest.raises(TrialTimeout, match=r"it took longer than trial_timeout_s=2, at "):
        all_steps(limits)
    assert steps > 1


def test_code_that_hangs_outside_python_is_given_up(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("ddl.sweeps.time_limits.INTERRUPT_S", 0.2)
    given_up, may_end = threading.Event(), threading.Event()
    messages: list[str] = []
    outcome: list[str] = []

    def give_up(message: str) -> None:
        messages.append(message)
        given_up.set()

    def wait_in_c() -> None:
        may_end.wait()  # in another thread than the main one, nothing interrupts it

    def watched() -> None:
        with TimeLimits(stall_s=SHORT_S, give_up=give_up) as limits:
            limits.step(wait_in_c)
            outcome.append("returned")

    threading.Thread(target=watched, daemon=True).start()
    assert given_up.wait(HANG_S)
    assert messages[0].startswith("no sign of life for 0.3 s, at threading.py:")
    assert " in wait_in_c" in messages[0]
    assert "may_end.wait()" in capfd.readouterr().err, "the last stack"
    may_end.set()
    time.sleep(0.1)
    assert outcome == [], "a process that ends takes no further step"


def test_a_hanging_trial_fails_and_the_next_one_is_trained(tmp_path: Path) -> None:
    ended = ends(run_in_turn(tmp_path, "spin", "spin and catch", "none", stall_timeout_s=ENOUGH_S))
    assert [ended[name][0] for name in ("spin 0", "spin and catch 1", "none 2")] == ["failed", "failed", "finished"]
    assert ended["spin 0"][1].startswith("no sign of life for 2 s, at untidy.py:")


def test_a_trial_has_its_whole_time_in_each_attempt_and_each_trial_of_a_pack_has_its_own(tmp_path: Path) -> None:
    ended = ends(run_in_turn(tmp_path, "spin", "none", trial_timeout_s=ENOUGH_S))
    assert ended["spin 0"][1].startswith("it took longer than trial_timeout_s=2, at untidy.py:")
    assert ended["none 1"] == ("finished", "")


def test_of_a_stack_that_hangs_only_the_trials_that_hang_alone_too_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacked = Together.run_stacked.__func__

    def hanging(cls, members, device, resume):
        for step in stacked(cls, members, device, resume):
            yield step
            if any(member.seed == 1 for member in members):
                spin()

    monkeypatch.setattr(Together, "run_stacked", classmethod(hanging))
    tasks = [Together(seed=seed, rate=1.0, deed="none", steps=4, pause_s=0.0, marks=str(tmp_path)) for seed in range(3)]
    members = [Assignment(f"t{task.seed}", task, 1, 1, 0.0, tmp_path / f"t{task.seed}", 1000.0, stall_timeout_s=ENOUGH_S) for task in tasks]
    reports = list(itertools.chain(*run_pack(Pack(tuple(members), stacked=True), CPU)))
    assert {name: status for name, (status, _) in ends(reports).items()} == {"t0": "finished", "t1": "failed", "t2": "finished"}
    notes = [report.metadata["not_stacked"] for report in reports if "not_stacked" in report.metadata]
    assert len(notes) == 3
    assert notes[0].startswith("no sign of life for 2 s, at untidy.py:")


def test_a_probe_that_hangs_says_how_to_give_it_more_time(tmp_path: Path) -> None:
    timings = time_pack(Pack((assignment(tmp_path, "spin"),)), CPU, None, 0.0, stall_s=SHORT_S)
    assert timings.probes == []
    assert "no sign of life for 0.3 s, at untidy.py:" in timings.failures[""]
    assert timings.failures[""].endswith(". If it needs this time, set stall_timeout_s to more seconds")


def test_a_probe_ends_after_steps_that_are_too_long(tmp_path: Path) -> None:
    task = Together(seed=0, rate=1.0, deed="none", steps=1000, pause_s=0.2, marks=str(tmp_path))
    members = (Assignment("t", task, 1, 1, 0.0, tmp_path, 1000.0),)
    timings = time_pack(Pack(members, longest_step_s=0.1), CPU, None, 0.0)
    assert timings.probes == []
    assert re.fullmatch(r"a step takes 0\.\d+ s, much longer than one by one", timings.failures[""])
    assert time_pack(Pack(members), CPU, None, 0.0).probes


def test_a_probe_goes_on_after_a_single_step_that_was_held_up(tmp_path: Path) -> None:
    task = Together(seed=0, rate=1.0, deed="pause", steps=1000, pause_s=0.0, marks=str(tmp_path))
    members = (Assignment("t", task, 1, 1, 0.0, tmp_path, 1000.0),)
    assert time_pack(Pack(members, longest_step_s=0.9), CPU, None, 0.0).probes


@pytest.mark.campaign
def test_what_hangs_in_a_ray_sweep_fails_once_and_disturbs_no_other(tmp_path: Path) -> None:
    arguments = (
        "task.deed=spin,'wait in C','late spin','late wait in C','late keep the lock',none",
        "stall_timeout_s=3.0",
        "resources.cpus=1",
    )
    done = launch("--sweep", UNTIDY, "--scale", "smoke", *arguments, cwd=tmp_path, exits=1)
    run = run_folder(done.stdout, tmp_path)
    rows = {trial.configuration: trial for trial in LedgerReader(run).trials()}
    assert rows["none"].status == "finished"
    hung = {name: trial for name, trial in rows.items() if name != "none"}
    assert len(hung) == 5
    for name, trial in hung.items():
        assert trial.status == "failed"
        assert trial.attempts == 1, "it is not tried again"
        assert trial.reason.startswith("no sign of life"), name
        assert "at untidy.py:" in trial.reason
        assert " in _do, called at untidy.py:" in trial.reason
    assert rows["spin"].reason.startswith("no sign of life for 3 s, at untidy.py:")
    assert rows["late keep the lock"].reason.startswith("no sign of life, and Python's global lock was held, at untidy.py:")
    assert not list(run.glob("trials/*/hang.txt"))
    metrics = LedgerReader(run).metrics().query("name == 'val/torch'")
    assert metrics[metrics.trial_id == rows["late wait in C"].trial_id].step.tolist() == list(range(1, 15)), "its measurements stay"
    log = (run / "launch.log").read_text()
    assert "It hangs outside Python." in log
    assert "Its last stack:" in log
    assert "lock_in_c(mutex)" in log
    said = " ".join(done.stdout.split())  # with the last of the probes that failed
    assert re.search(
        r"not used: timing probe \(wait in C: no sign of life for 3 s, at untidy.* set stall_timeout_s to more seconds\)", said
    ), said


def test_a_hanging_probe_and_trial_do_not_end_an_inline_sweep(tmp_path: Path) -> None:
    arguments = ("--executor", "inline", "task.deed=spin,none", "stall_timeout_s=2.0", "resources.cpus=1")
    done = launch("--sweep", UNTIDY, "--scale", "smoke", *arguments, cwd=tmp_path, exits=1)
    assert "not used: timing probe (spin: TrialTimeout: no sign of life for 2 s, at untidy.py:" in " ".join(done.stdout.split())
    rows = {trial.configuration: trial.status for trial in LedgerReader(run_folder(done.stdout, tmp_path)).trials()}
    assert rows == {"spin": "failed", "none": "finished"}


def test_a_log_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"), hang_log(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
