"""The plan as a terminal shows it."""

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from ddl.console import terminal
from ddl.plan_lines import show_plan
from ddl.sweeps.allocation import Allocation
from ddl.sweeps.capacity import Capacity, Node
from ddl.sweeps.plan import Plan, report_duration
from ddl.sweeps.space import Trial
from ddl.sweeps.stacking import Stacking
from ddl.terminal import DisplayedTrial, ProgressDisplay, show_activity
from ddl.timings import TimingProbe
from ddl.trial_report import TrialReport
from ddl.units import duration

SAMPLE = {"name": "cifar10", "source": "bundled sample", "train": 256, "val": 128}
AIRLINE = {"name": "airline", "source": "bundled", "complete": True, "val": 48}


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ([SAMPLE] * 3, ["cifar10, bundled sample, 256 train and 128 validation examples. ONLY A SAMPLE of the official data"]),
        (
            [AIRLINE | {"train": train} for train in (94, 95, 0, 94)],
            ["airline, bundled, 0 to 95 train and 48 validation examples"],
        ),
        (
            [AIRLINE | {"train": 95}, SAMPLE, SAMPLE | {"complete": True, "source": "whole", "train": 50000}],
            [
                "airline, bundled, 95 train and 48 validation examples",
                "cifar10, bundled sample, 256 train and 128 validation examples. ONLY A SAMPLE of the official data",
                "cifar10, whole, 50000 train and 128 validation examples",
            ],
        ),
        ([SAMPLE | {"fallback_for": "svhn"}], ["cifar10, bundled sample, 256 train and 128 validation examples. A FALLBACK, NOT svhn"]),
        ([{"name": "own", "source": "a file"}], ["own, a file, ? train and ? validation examples. ONLY A SAMPLE of the official data"]),
        ([None], []),
    ],
    ids=["one", "sizes", "several", "fallback", "unknown size", "none"],
)
def test_one_line_for_each_data_set_and_state(data, lines):
    probes = {str(index): TimingProbe("fp32", 1, 1, 1, 0, 1, 1, {"data": each}) for index, each in enumerate(data)}
    plan = Plan(Allocation(1, 1, 0, 1, 1, "ddp"), Capacity((Node(1),)), "fp32", probes, {}, 1, 1, 0, 0, Stacking())
    screen = io.StringIO()
    show_plan(Console(file=screen, width=300), plan, [], 1, 0)
    assert [line.removeprefix("data: ") for line in screen.getvalue().splitlines() if line.startswith("data: ")] == lines


def test_the_plan_shows_its_notes():
    plan = Plan(Allocation(1, 1, 0, 1, 1, "ddp"), Capacity((Node(1),)), "fp32", {}, {}, 1, 1, 0, 0, Stacking())
    screen = io.StringIO()
    show_plan(Console(file=screen, width=300), plan, [], 1, 0, ["seeds: 3 (default)"])
    assert "seeds: 3 (default)" in screen.getvalue().splitlines()


def test_the_plan_names_nodes_that_cannot_hold_a_trial():
    def idle(allocation: Allocation) -> list[str]:
        plan = Plan(allocation, mixed, "fp32", {}, {}, 1, 1, 0, 0, Stacking())
        screen = io.StringIO()
        show_plan(Console(file=screen, width=300), plan, [], 1, 0)
        return [line for line in screen.getvalue().splitlines() if line.startswith("idle: ")]

    mixed = Capacity((Node(64), Node(8, 1), Node(16, 2)))
    assert idle(Allocation(1, 4, 1, 3, 1, "ddp")) == ["idle: 1 node that cannot hold a trial (64 CPU cores, 0 GPUs)"]
    assert idle(Allocation(1, 9, 1, 1, 1, "ddp")) == ["idle: 2 nodes that cannot hold a trial (72 CPU cores, 1 GPU)"]
    assert idle(Allocation(1, 1, 0, 88, 1, "ddp")) == []


def test_the_expected_time_includes_the_report():
    probe = TimingProbe("fp32", 1, 1, 1, 0, 1, 1, {})
    plan = Plan(Allocation(1, 1, 0, 1, 1, "ddp"), Capacity((Node(1),)), "fp32", {"a": probe}, {}, 1, 60.0, 0, 0, Stacking())
    screen = io.StringIO()
    show_plan(Console(file=screen, width=300), plan, [], 1, 0)
    report_s = report_duration(0)
    assert f"expected: {duration(60 + report_s)} from now, {duration(report_s)} of it for the report (timed 1 of" in screen.getvalue()


def test_a_search_that_has_no_trial_yet_is_shown_on_a_terminal():
    screen = io.StringIO()
    with ProgressDisplay(Console(file=screen, force_terminal=True, width=100), {}, 2, 0, 1) as progress:
        progress.add("a", DisplayedTrial("lr=0.1", 0, "val/loss", 1.0))
        progress.update(TrialReport("a", "ended", step=10, total_steps=10, elapsed_s=2.0, status="finished"))
    assert "[1/2] lr=0.1 seed 0 finished after 2.0 s" in screen.getvalue()


def test_a_resumed_trial_is_expected_to_take_as_long_as_the_rest_of_its_steps():
    probe = TimingProbe("fp32", 1, 0.1, 0.5, 0, 100, 20, {})
    task = SimpleNamespace(seed=0, timed=False, can_stack=lambda: False, stack_key=lambda: None)
    begun, waiting = Trial("a", 0, "light", {}, task), Trial("b", 1, "light", {}, task)
    plan = Plan(Allocation(1, 1, 0, 1, 1, "ddp"), Capacity((Node(1),)), "fp32", {"light": probe}, {}, 1, 60.0, 0, 0, Stacking())
    plan = replace(plan, done={"a": 0.9})
    assert plan.seconds(waiting) == pytest.approx(1 + 10 + 10)
    assert plan.seconds(begun) == pytest.approx(1 + 1 + 1)
    assert plan.eta([begun, waiting], 0) == pytest.approx(24)
    screen = io.StringIO()
    show_plan(Console(file=screen, width=300), plan, [begun, waiting], 1, 2)
    rows = [line.split()[3] for line in screen.getvalue().splitlines()[1:3]]
    assert rows == ["10", "100"]


def test_a_trials_last_step_and_its_end_are_one_line(monkeypatch):
    monkeypatch.setattr("ddl.terminal.LINE_EVERY_S", 0)
    screen = io.StringIO()
    with ProgressDisplay(Console(file=screen, width=300), {"a": DisplayedTrial("light", 0, "val/loss", 1.0)}, 0, 0, 1) as progress:
        progress.update(TrialReport("a", "started"))
        progress.update(TrialReport("a", "measured", step=5, total_steps=10, metrics={"val/loss": 0.5}))
        progress.update(TrialReport("a", "measured", step=10, total_steps=10, metrics={"val/loss": 0.25}))
        progress.update(TrialReport("a", "ended", step=10, total_steps=10, elapsed_s=2.0, status="finished"))
    first, last = screen.getvalue().splitlines()
    assert first.startswith("[0/1] light seed 0 step 5/10, last val/loss 0.5; about ")
    assert last == "[1/1] light seed 0 finished, last val/loss 0.25 after 2.0 s"


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setattr("ddl.terminal.LINE_EVERY_S", 0)
    monkeypatch.setenv("TERM", "dumb")
    screen = io.StringIO()
    console = Console(file=screen, width=300, force_terminal=True)
    with (
        show_activity(console, "timing"),
        ProgressDisplay(console, {"a": DisplayedTrial("light", 0, "val/loss", 1.0)}, 0, 0, 1) as progress,
    ):
        progress.update(TrialReport("a", "measured", step=5, total_steps=10, metrics={"val/loss": 0.5}))
        first, second = screen.getvalue().splitlines()
    assert first == "timing"
    assert second.startswith("[0/1] light seed 0 step 5/10, last val/loss 0.5")


@pytest.mark.parametrize("name", ["[draft]", "[/x]", "a:key:b"])
def test_names_are_printed_as_they_are(name, capfd):
    with terminal() as console:
        console.print(f"to resume it if interrupted: ddl --resume {name}", soft_wrap=True)
    assert capfd.readouterr().out == f"to resume it if interrupted: ddl --resume {name}\n"
