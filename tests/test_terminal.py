"""The plan as a terminal shows it."""

import io

import pytest
from rich.console import Console

from ddl.sweeps.allocation import Allocation
from ddl.sweeps.capacity import Capacity, Node
from ddl.sweeps.plan import Plan, report_duration
from ddl.sweeps.stacking import Stacking
from ddl.terminal import DisplayedTrial, ProgressDisplay, show_plan
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
    show_plan(Console(file=screen, width=300), plan, [])
    assert [line.removeprefix("data: ") for line in screen.getvalue().splitlines() if line.startswith("data: ")] == lines


def test_the_plan_shows_its_notes():
    plan = Plan(Allocation(1, 1, 0, 1, 1, "ddp"), Capacity((Node(1),)), "fp32", {}, {}, 1, 1, 0, 0, Stacking())
    screen = io.StringIO()
    show_plan(Console(file=screen, width=300), plan, [], ["seeds: 3 (default)"])
    assert "seeds: 3 (default)" in screen.getvalue().splitlines()


def test_the_plan_names_nodes_that_cannot_hold_a_trial():
    def idle(allocation: Allocation) -> list[str]:
        plan = Plan(allocation, mixed, "fp32", {}, {}, 1, 1, 0, 0, Stacking())
        screen = io.StringIO()
        show_plan(Console(file=screen, width=300), plan, [])
        return [line for line in screen.getvalue().splitlines() if line.startswith("idle: ")]

    mixed = Capacity((Node(64), Node(8, 1), Node(16, 2)))
    assert idle(Allocation(1, 4, 1, 3, 1, "ddp")) == ["idle: 1 node that cannot hold a trial (64 CPU cores, 0 GPUs)"]
    assert idle(Allocation(1, 9, 1, 1, 1, "ddp")) == ["idle: 2 nodes that cannot hold a trial (72 CPU cores, 1 GPU)"]
    assert idle(Allocation(1, 1, 0, 88, 1, "ddp")) == []


def test_the_expected_time_includes_the_report():
    probe = TimingProbe("fp32", 1, 1, 1, 0, 1, 1, {})
    plan = Plan(Allocation(1, 1, 0, 1, 1, "ddp"), Capacity((Node(1),)), "fp32", {"a": probe}, {}, 1, 60.0, 0, 0, Stacking())
    screen = io.StringIO()
    show_plan(Console(file=screen, width=300), plan, [])
    report_s = report_duration(0)
    assert f"expected: {duration(60 + report_s)} from now, {duration(report_s)} of it for the report (timed 1 of" in screen.getvalue()


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
