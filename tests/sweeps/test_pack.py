"""Packs in a worker: trials that are trained as one model report, end, resume and fail as they would alone."""

import gc
import itertools
import weakref
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from ddl import checkpoints
from ddl.devices import Device
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.pack import Pack
from ddl.sweeps.run_pack import run_pack
from ddl.trial_report import TrialReport

from .plugin.together import Together

CPU = Device(torch.device("cpu"))


@pytest.fixture
def pack(tmp_path: Path):
    def make(*deeds: str, where: str = "stacked", checkpoint_every_s: float = 0.0) -> Pack:
        """A member for each deed, with a rate and a seed of its own."""
        (tmp_path / "marks").mkdir(exist_ok=True)
        tasks = [
            Together(seed=number, rate=1.0 + number, deed=deed, steps=9, pause_s=0.0, marks=str(tmp_path / "marks"))
            for number, deed in enumerate(deeds)
        ]
        folders = [tmp_path / where / f"t{task.seed}" for task in tasks]
        return Pack(
            tuple(
                Assignment(f"t{task.seed}", task, 1, 1, 0.0, folder, checkpoint_every_s)
                for task, folder in zip(tasks, folders, strict=True)
            ),
            stacked=True,
        )

    return make


def alone(pack: Pack) -> list[list[TrialReport]]:
    return [batch for member in pack.members for batch in run_pack(Pack((member,)), CPU)]


def recorded(batches: list[list[TrialReport]]) -> dict[str, list[tuple]]:
    """What the ledger would hold of each trial: measurements without times, its metadata, and its end."""
    rows = defaultdict(list)
    for report in itertools.chain(*batches):
        metrics = {name: value for name, value in report.metrics.items() if name.startswith("val/")}
        metadata = {name: value for name, value in report.metadata.items() if name not in ("device", "stacked")}
        if first_steps := metadata.get("first_steps"):
            metadata["first_steps"] = {name: value for name, value in first_steps.items() if name != "stacked"}
        if report.kind == "ended" or metrics or metadata:
            rows[report.trial_id].append((report.step, str(metrics), metadata, report.status, report.reason))
    return rows


def ends(batches: list[list[TrialReport]]) -> dict[str, str]:
    return {report.trial_id: report.status for report in itertools.chain(*batches) if report.kind == "ended"}


def attempts(pack: Pack) -> list[str]:
    """The members and the first step of each attempt, in order."""
    paths = sorted(Path(pack.first.task.marks).iterdir(), key=lambda path: path.name.split("-")[2])
    return [f"{path.name.split('-')[0]} from {path.name.rpartition('-')[2]}" for path in paths]


def test_a_stack_records_of_each_trial_what_it_would_record_alone(pack):
    deeds = ("none", "none", "give nan", "diverge", "none")
    together = list(run_pack(pack(*deeds), CPU))
    assert recorded(together) == recorded(alone(pack(*deeds, where="alone")))
    assert ends(together) == {"t0": "finished", "t1": "finished", "t2": "diverged", "t3": "diverged", "t4": "finished"}
    assert attempts(pack("none"))[0] == "0+1+2+3+4 from 0"


def test_its_trials_are_marked_as_trained_together(pack):
    started = next(run_pack(pack("none", "none"), CPU))
    assert [(report.kind, report.metadata["stacked"]) for report in started] == [("started", 2)] * 2
    assert next(run_pack(pack("none", where="alone"), CPU))[0].metadata["stacked"] is None


def test_a_checkpoint_does_not_show_whether_its_trial_was_in_a_stack(pack):
    stacked, single = pack("none", "none"), pack("none", "none", where="alone")
    list(run_pack(stacked, CPU))
    alone(single)
    for one, other in zip(stacked.members, single.members, strict=True):
        step, state = checkpoints.newest(one.folder / "checkpoints", one.trial_id)
        same_step, same = checkpoints.newest(other.folder / "checkpoints", other.trial_id)
        assert (step, state["task"]) == (same_step, same["task"]) == (9, same["task"])
        assert state.keys() == same.keys()
        assert state["measured"][-1]["metrics"] == same["measured"][-1]["metrics"]


def test_a_measurement_is_recorded_before_a_checkpoint_contains_it(pack):
    stack = pack("none", "none")
    for batch in run_pack(stack, CPU):
        for report in batch:
            newest = checkpoints.newest(stack.members[0].folder / "checkpoints", "t0")
            if report.metrics.get("val/total"):
                assert newest is None or newest[0] < report.step


def test_an_error_ends_only_the_trials_that_raise_it_alone_too(pack):
    batches = list(run_pack(pack("none", "raise", "raise in a stack"), CPU))
    assert ends(batches) == {"t0": "finished", "t1": "failed", "t2": "finished"}
    assert attempts(pack("none")) == ["0+1+2 from 0", "0 from 2", "1 from 2", "2 from 2"], "each continues from its checkpoint"
    notes = [report.metadata["not_stacked"] for report in itertools.chain(*batches) if "not_stacked" in report.metadata]
    assert len(notes) == 3
    assert notes[0].startswith("RuntimeError: meant to fail (together.py:")
    totals = {report.trial_id: report.metrics["val/total"] for report in itertools.chain(*batches) if "val/total" in report.metrics}
    assert totals == {"t0": sum(range(9)), "t1": 2.0 * 3, "t2": 3.0 * sum(range(9))}


def test_a_trial_that_continues_alone_is_no_longer_marked_as_trained_together(pack):
    stack = pack("none", "none", checkpoint_every_s=1000.0)
    list(run_pack(stack, CPU, preempted_after(3)))
    (started,) = next(run_pack(Pack(stack.members[:1]), CPU))
    assert started.metadata["stacked"] is None


@pytest.mark.parametrize("stacked", [True, False])
def test_a_stopped_trial_leaves_and_the_others_are_not_disturbed(pack, stacked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ddl.sweeps.run_pack.COLLECT_S", 0.0)
    members = replace(pack("none", "none", "none"), stacked=stacked)
    undisturbed = recorded(list(run_pack(replace(pack("none", "none", "none", where="undisturbed"), stacked=stacked), CPU)))
    stopped: set[str] = set()
    batches = []
    for batch in run_pack(members, CPU, stopped=lambda: stopped):
        batches.append(batch)
        if any(report.trial_id == "t1" and report.step == 4 and report.metrics for report in batch):
            stopped.add("t1")
    assert ends(batches) == {"t0": "finished", "t1": "stopped", "t2": "finished"}
    rows = recorded(batches)
    assert {name: rows[name] for name in ("t0", "t2")} == {name: undisturbed[name] for name in ("t0", "t2")}
    assert rows["t1"][-1][3:] == ("stopped", "by the scheduler at step 4 of 9")
    assert [row[0] for row in rows["t1"] if "val/total" in row[1]] == [2, 4]
    (end,) = [report for report in itertools.chain(*batches) if report.trial_id == "t1" and report.kind == "ended"]
    assert end.metrics == end.usage != {}, "its device usage until then is recorded"


def preempted_after(steps: int):
    left = iter([False] * steps)
    return lambda: next(left, True)


def test_a_preempted_stack_continues_where_it_was_in_any_grouping(pack):
    stack = pack("none", "none", "none", checkpoint_every_s=1000.0)
    first = list(run_pack(stack, CPU, preempted_after(4)))
    assert [report.kind for report in first[-1]] == ["preempted"] * 3
    one, two, three = stack.members
    list(run_pack(Pack((one,)), CPU, preempted_after(1)))
    rest = list(run_pack(Pack((two, one, three), stacked=True), CPU))
    assert attempts(stack) == ["0+1+2 from 0", "0 from 5", "1+2 from 5", "0 from 7"]
    undisturbed = recorded(alone(pack("none", "none", "none", where="alone")))
    assert {name: rows[-1] for name, rows in recorded(rest).items()} == {name: rows[-1] for name, rows in undisturbed.items()}


def test_of_groups_a_preemption_ends_the_pack(pack):
    stack = pack("none", "none", checkpoint_every_s=1000.0)
    list(run_pack(Pack(stack.members[:1]), CPU, preempted_after(2)))
    last = list(run_pack(stack, CPU, preempted_after(2)))[-1]
    assert [(report.trial_id, report.kind, report.step) for report in last] == [("t1", "preempted", 3)]


def test_device_usage_of_a_resumed_trial_includes_its_earlier_attempts(pack):
    stack = pack("none", "none", checkpoint_every_s=1000.0)
    list(run_pack(stack, CPU, preempted_after(4)))
    _, state = checkpoints.newest(stack.first.folder / "checkpoints", "t0")
    before = state["usage"]["seconds"]
    list(run_pack(stack, CPU))
    _, state = checkpoints.newest(stack.first.folder / "checkpoints", "t0")
    assert state["usage"]["seconds"] > before > 0


def test_a_preemption_after_the_last_trial_has_left_is_no_error(pack):
    batches = list(run_pack(pack("diverge", "give nan"), CPU, preempted_after(2)))
    assert ends(batches) == {"t0": "diverged", "t1": "diverged"}


def test_trials_that_continue_alone_have_the_memory_of_the_stack(pack, monkeypatch):
    held: list[weakref.ref] = []
    stacked = Together.run_stacked.__func__

    def watched(cls, members, device, resume):
        memory = torch.zeros(1)
        if len(members) > 1:
            held.append(weakref.ref(memory))
        else:
            gc.collect()
            assert held[0]() is None
        for step in stacked(cls, members, device, resume):
            yield {index: replace(progress, state=partial(_state, progress.state, memory)) for index, progress in step.items()}

    monkeypatch.setattr(Together, "run_stacked", classmethod(watched))
    assert set(ends(list(run_pack(pack("none", "raise in a stack"), CPU))).values()) == {"finished"}


def _state(state, memory):
    return state()


def test_trials_in_turn_report_what_they_would_alone_in_fewer_messages(pack):
    deeds = ("none", "give nan", "raise", "diverge", "none")
    together = list(run_pack(Pack(pack(*deeds, checkpoint_every_s=1000.0).members), CPU))
    assert recorded(together) == recorded(alone(pack(*deeds, where="alone", checkpoint_every_s=1000.0)))
    assert attempts(pack("none"))[:5] == [f"{number} from 0" for number in range(5)]
    assert len(together) < sum(map(len, together)) / 2
    starts = [batch.index(report) for batch in together for report in batch if report.kind == "started"]
    ends = [len(batch) - 1 for batch in together if batch[-1].kind == "started"]
    assert starts == ends, "a start is recorded at once: if the process dies, the driver knows which trial ran"


def test_a_measurement_of_a_trial_in_turn_is_recorded_before_a_checkpoint_contains_it(pack):
    members = pack("none", "none").members  # a checkpoint is due after every step
    done = 0
    for batch in run_pack(Pack(members), CPU):
        for report in batch:
            newest = checkpoints.newest(members[0].folder / "checkpoints", "t0")
            if report.trial_id == "t0" and report.metrics.get("val/total"):
                done += 1
                assert newest is None or newest[0] < report.step
    assert done == 4
