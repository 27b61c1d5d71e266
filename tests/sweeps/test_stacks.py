"""Sweeps whose trials are trained as one model: the plan's choice, and the command under real processes and kills."""

import dataclasses
import os
import signal
from pathlib import Path

import pytest

from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.schema import EarlyStopping, Launch, Resources, Search, Wandb
from ddl.sweeps.allocation import Allocation
from ddl.sweeps.choose_stacking import NO_GAIN, TAKES_LONG, choose_stacking
from ddl.sweeps.space import Trial
from ddl.sweeps.stacking import Stacking
from ddl.timings import TimingProbe, Timings
from tests.waiting import wait_until

from .command import PLUGIN, Command, launch, run_folder, start
from .plugin.together import Together
from .test_engine import settled

TOGETHER = str(PLUGIN / "together.yaml")
LAUNCH = Launch(
    seeds=8,
    until="all",
    margin=0,
    first_seed=0,
    resources=Resources(num_workers=1, strategy="ddp", cpus=1, gpus=0),
    stack="auto",
    early_stopping=EarlyStopping(scheduler="none", grace=0.1, reduction_factor=3),
    search=Search(algorithm="random", every=0.1),
    retries=0,
    checkpoint_every_s=15.0,
    trial_timeout_s="none",
    stall_timeout_s="none",
    latency="none",
    wandb=Wandb(mode="disabled", project="ddl"),
)


def trials(count: int, *, steps: int = 10, first: int = 0, deed: str = "none") -> list[Trial]:
    """Trials of the configurations a and b in turn, as a sweep orders them."""
    return [
        Trial(f"{steps} {n}", n, "ab"[n % 2], {}, Together(seed=n // 2, rate=1.0 + n % 2, deed=deed, steps=steps, pause_s=0, marks=""))
        for n in range(first, first + count)
    ]


def probe(seconds: float, **changed: float) -> TimingProbe:
    return dataclasses.replace(TimingProbe("", 0.0, seconds / 10, 0.0, 0.0, 10, 0, {}, probe_s=1.0), **changed)


class Stacks:
    """An executor in which a stack of n trials takes `seconds[n]` seconds; it fails if there is no such number."""

    def __init__(self, seconds: dict[int, float], **changed: float):
        self.seconds, self.changed = seconds, changed
        self.timed: list[tuple[int, int]] = []
        """(members of each pack, packs at once) of each probe."""

    def probe(self, packs, precisions, window_s):
        size = len(packs[0].members)
        self.timed.append((size, len(packs)))
        if size not in self.seconds:
            return [Timings([], {"": "RuntimeError: too many"})] * len(packs)
        return [Timings([probe(self.seconds[size], **self.changed)], {})] * len(packs)


TIMED = {"a": probe(1.0), "b": probe(1.0)}


def choose(
    executor: Stacks, asked: list[Trial], places: int = 2, gpus: float = 0.0, most_s: float = 1e9, probes=TIMED, **changed
) -> Stacking:
    allocation = Allocation(1, 1, gpus, places, 1, "ddp")
    launch = dataclasses.replace(LAUNCH, **changed)
    return choose_stacking(asked, probes, allocation, executor, launch, "", Path(), most_s)


def sizes(stacking: Stacking, asked: list[Trial]) -> list[int]:
    stacks, alone = stacking.split(asked)
    return [*map(len, stacks), *[1] * len(alone)]


def test_larger_stacks_are_timed_while_they_are_faster_and_the_fastest_is_used():
    executor = Stacks({4: 2.0, 16: 4.0, 32: 32.0})
    found = choose(executor, trials(64))
    assert executor.timed == [(4, 2), (16, 2), (32, 2)], "each while all places are busy"
    assert sizes(found, trials(64)) == [16] * 4
    assert found.seconds(trials(16)) == pytest.approx(4.0)
    assert [(row["members"], row["used"]) for row in found.record()] == [(16, True)]


def test_a_stack_is_given_up_after_a_step_that_is_far_too_slow():
    class Watched(Stacks):
        def probe(self, packs, precisions, window_s):
            self.longest = [pack.longest_step_s for pack in packs]
            return super().probe(packs, precisions, window_s)

    executor = Watched({4: 1.0})
    choose(executor, trials(8))
    assert executor.longest == [pytest.approx(3 * 4 * 0.1)] * 2
    choose(executor, trials(8), probes={"a": probe(0.01)})
    assert executor.longest == [0.5] * 2, "the first steps of a small model vary more"


def test_every_place_gets_a_stack():
    assert sizes(choose(Stacks(dict.fromkeys(range(65), 1.0)), trials(32)), trials(32)) == [16, 16]
    assert sizes(choose(Stacks(dict.fromkeys(range(65), 1.0)), trials(7)), trials(7)) == [4, 3]
    assert sizes(choose(Stacks(dict.fromkeys(range(65), 1.0)), trials(32), places=1), trials(32)) == [32]


def test_a_stack_that_is_not_clearly_faster_is_not_used():
    executor = Stacks({4: 3.8, 16: 1.0})
    found = choose(executor, trials(64))
    assert sizes(found, trials(64)) == [1] * 64
    assert executor.timed == [(4, 2)]


def test_trials_with_other_shapes_or_that_cannot_be_stacked_are_kept_apart():
    mixed = trials(8, steps=10) + trials(8, steps=20, first=8) + trials(2, deed="alone", first=16)
    stacks, alone = choose(Stacks(dict.fromkeys(range(65), 1.0)), mixed).split(mixed)
    assert [{trial.task.steps for trial in stack} for stack in stacks] == [{10}, {20}]
    assert [len(stack) for stack in stacks] == [8, 8]
    assert sorted(trial.position for pack in (*stacks, alone) for trial in pack) == list(range(18)), "every trial is in one pack"


def test_a_stack_that_fails_is_named_and_a_smaller_one_is_used():
    found = choose(Stacks({4: 1.0}), trials(64))
    assert sizes(found, trials(64)) == [4] * 16
    assert list(found.failures.values()) == ["RuntimeError: too many"]


def test_a_stack_that_does_not_fit_into_a_gpu_is_not_used():
    fits = choose(Stacks({4: 1.0}, memory_bytes=8e9, free_bytes=10e9), trials(8), gpus=1.0)
    assert sizes(fits, trials(8)) == [4, 4]
    large = choose(Stacks({4: 1.0}, memory_bytes=9.5e9, free_bytes=10e9), trials(8), gpus=1.0)
    assert sizes(large, trials(8)) == [1] * 8
    assert list(large.failures.values()) == ["it does not fit into the GPU's memory"]


@pytest.mark.parametrize(
    ("changed", "largest"),
    [
        ({"stack": "off"}, 1),
        ({"stack": 3}, 3),
        ({"stack": 1}, 1),
        ({"early_stopping": EarlyStopping(scheduler="asha", grace=0.1, reduction_factor=3)}, 8),
        ({"search": Search(algorithm="tpe", every=0.1)}, 1),
    ],
)
def test_a_limit_is_kept_and_trials_that_are_sampled_one_after_the_other_are_not_stacked(changed, largest):
    assert max(sizes(choose(Stacks(dict.fromkeys(range(65), 1.0)), trials(16), **changed), trials(16))) == largest


@pytest.mark.parametrize(("most_s", "timed"), [(3.9, []), (4.1, [4]), (11.0, [4, 16])])
def test_a_stack_is_not_timed_if_that_could_take_too_long(most_s, timed):
    # The probe of a trial takes 1 s. That of a stack is expected to take as long per trial as the last stack.
    executor = Stacks({4: 4.0 / 1.5, 16: 16.0 / 1.5})
    choose(executor, trials(32), most_s=most_s)
    assert [size for size, _ in executor.timed] == timed


def test_a_number_is_timed_whatever_it_takes():
    assert sizes(choose(Stacks({4: 1.0}), trials(8), most_s=0.0, stack=4), trials(8)) == [4, 4]
    executor = Stacks({1: 1.0, 4: 1.0})
    assert sizes(choose(executor, trials(8), most_s=0.0, probes={}, stack=4), trials(8)) == [4, 4]
    assert executor.timed == [(1, 2), (4, 2)], "the plan had no time for a single trial"


def test_what_was_not_timed_is_named():
    assert choose(Stacks({}), trials(8), most_s=0.0).not_timed == {"a": TAKES_LONG}
    assert choose(Stacks({}), trials(8), probes={}).not_timed == {"a": TAKES_LONG}
    assert choose(Stacks({4: 1.0}), trials(8)).not_timed == {}


class BySteps(Stacks):
    """Stacks whose seconds depend on the number of steps."""

    def probe(self, packs, precisions, window_s):
        self.timed.append(tuple(pack.first.task.steps for pack in packs))
        return [Timings([probe(self.seconds[pack.first.task.steps])], {}) for pack in packs]


def test_stacks_of_different_shapes_are_timed_at_the_same_time_those_that_take_longest_first():
    asked = [dataclasses.replace(trial, configuration=f"{steps} steps") for steps in (10, 20, 30) for trial in trials(8, steps=steps)]
    alone = {"10 steps": probe(0.01), "20 steps": probe(0.02), "30 steps": probe(0.03)}
    executor = BySteps({10: 0.01, 20: 0.04, 30: 0.3})
    found = choose(executor, asked, probes=alone)
    assert executor.timed == [(30, 20), (10, 10)]
    assert {row["configuration"]: row["used"] for row in found.record()} == {"10 steps": True, "20 steps": True, "30 steps": False}


@pytest.mark.parametrize(
    ("seconds", "stack", "timed", "not_timed"),
    [
        ({10: 4.0, 20: 1.0, 30: 1.0, 40: 9.0}, "auto", [(10, 20), (30, 40)], {}),
        ({10: 1.0, 20: 9.0, 30: 1.0, 40: 9.0}, "auto", [(10, 20)], {"30 steps": NO_GAIN, "40 steps": NO_GAIN}),
        ({10: 1.0, 20: 9.0, 30: 1.0, 40: 9.0}, 4, [(10, 20), (30, 40)], {}),
    ],
)
def test_no_stack_of_long_steps_is_timed_after_one_of_shorter_steps_that_was_not_faster(seconds, stack, timed, not_timed):
    asked = [dataclasses.replace(trial, configuration=f"{steps} steps") for steps in (40, 30, 20, 10) for trial in trials(4, steps=steps)]
    alone = {f"{steps} steps": probe(1.0, step_s=steps / 1e3, total_steps=1000 // steps) for steps in (10, 20, 30, 40)}
    executor = BySteps(seconds)
    found = choose(executor, asked, probes=alone, stack=stack)
    assert [set(packs) for packs in executor.timed] == [set(packs) for packs in timed]
    assert found.not_timed == not_timed


def test_the_first_trials_imports_are_no_gain():
    slow_start = dict.fromkeys("ab", probe(1.0, start_s=20.0))
    assert sizes(choose(Stacks({4: 4.0}), trials(8), probes=slow_start), trials(8)) == [1] * 8


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def members(marks: Path) -> list[int]:
    """The number of members of each attempt, in order; the timing probes are first."""
    return [path.name.count("+") + 1 for path in sorted(marks.iterdir(), key=lambda path: path.name.split("-")[2])]


def test_a_sweep_says_what_it_stacks_and_has_the_results_of_one_that_does_not(command: Command, tmp_path: Path, marks: Path) -> None:
    arguments = ("--sweep", TOGETHER, "--scale", "smoke", f"task.marks={marks}", "stack=4", "--executor", "inline")
    stacked = command(*arguments)
    assert "stacked: 4 trials as one model" in " ".join(stacked.stdout.split())
    folder = run_folder(stacked.stdout, tmp_path)
    assert members(marks)[-2:] == [4, 4]
    rows = LedgerReader(folder).trials()
    assert {(row.status, row.attempts, (row.metadata or {})["stacked"]) for row in rows} == {("finished", 1, 4)}
    assert LedgerReader(folder).run()["plan"]["stacks"][-1]["used"] is True

    alone = command(*arguments, "stack=off", "--out", "alone")
    assert "as one model" not in " ".join(alone.stdout.split())
    assert settled(folder).equals(settled(run_folder(alone.stdout, tmp_path)))


@pytest.mark.campaign
def test_when_a_process_dies_its_trials_continue_but_not_those_that_had_ended(tmp_path: Path, marks: Path) -> None:
    deeds = ("task.deed=give nan,die once,none", "task.rate=1.0", "seeds=1", "stack=3", "resources.cpus=2", "task.steps=20")
    done = launch("--sweep", TOGETHER, "--scale", "smoke", f"task.marks={marks}", *deeds, cwd=tmp_path)
    rows = {row.configuration.rpartition("=")[2]: row for row in LedgerReader(run_folder(done.stdout, tmp_path)).trials()}
    assert {name: row.status for name, row in rows.items()} == {"give nan": "diverged", "die once": "finished", "none": "finished"}
    assert {name: row.attempts for name, row in rows.items()} == {"give nan": 1, "die once": 2, "none": 2}
    assert members(marks)[-2:] == [1, 1], "any of them may have caused it, so none can do it again to the other"


def test_a_trial_that_kills_its_process_takes_no_retry_from_others_in_its_pack(tmp_path: Path, marks: Path) -> None:
    settings = ("stack=off", "seeds=24", "task.rate=1.0", "task.deed=die if seed 3", "task.steps=20", "retries=1", "resources.cpus=2")
    done = launch("--sweep", TOGETHER, "--scale", "smoke", f"task.marks={marks}", *settings, cwd=tmp_path, exits=1)
    rows = {row.seed: row for row in LedgerReader(run_folder(done.stdout, tmp_path)).trials()}
    assert {seed: (row.status, row.attempts) for seed, row in rows.items()} == {
        seed: ("failed", 2) if seed == 3 else ("finished", 1) for seed in range(24)
    }
    assert rows[3].reason.startswith("its process died and no retries are left")
    pids = [path.name.split("-")[1] for path in marks.iterdir()]
    assert len(set(pids)) <= 1 + 2 + 6, "short trials share processes and packs"


def test_a_killed_driver_loses_nothing_and_a_resume_may_group_trials_anew(command: Command, tmp_path: Path, marks: Path) -> None:
    arguments = ("--sweep", TOGETHER, "--scale", "smoke", f"task.marks={marks}", "task.steps=60", "task.pause_s=0.1", "stack=4")
    process = start(*arguments, "resources.cpus=1", cwd=tmp_path)
    ledgers = lambda: list(tmp_path.glob("runs/together/*/ledger.sqlite"))  # noqa: E731
    wait_until(lambda: ledgers() and len(LedgerReader(ledgers()[0].parent).metrics()) >= 24, "some steps of all trials")
    os.kill(process.pid, signal.SIGKILL)
    output, _ = process.communicate()
    assert "stacked: 4 trials as one model" in " ".join(output.split())

    folder = ledgers()[0].parent
    assert {(row.metadata or {})["stacked"] for row in LedgerReader(folder).trials()} == {4}
    with_one_more = len(members(marks))
    assert sorted(members(marks)[-2:]) == [4, 4], "each trial is in one of two stacks"
    resumed = command("--resume", str(folder), "--executor", "inline")
    assert run_folder(resumed.stdout, tmp_path) == folder
    rows = LedgerReader(folder).trials()
    assert {(row.status, row.attempts) for row in rows} == {("finished", 2)}
    assert len(members(marks)) > with_one_more
    metrics = LedgerReader(folder).metrics().query("name == 'val/total'")
    assert metrics.groupby("trial_id").step.apply(list).tolist() == [list(range(2, 61, 2))] * 8, "every measurement once"
    assert set(settled(folder)["val/total"]) == {sum(range(61)), 2 * sum(range(61))}


def test_a_run_that_was_recorded_without_later_settings_can_be_resumed(command: Command, tmp_path: Path, marks: Path) -> None:
    arguments = ("--sweep", TOGETHER, "--scale", "smoke", "--executor", "inline", f"task.marks={marks}", "seeds=1")
    folder = run_folder(command(*arguments).stdout, tmp_path)
    with Ledger(folder) as ledger:
        added = ("stack", "trial_timeout_s", "stall_timeout_s")
        ledger.note(launch={name: value for name, value in ledger.run()["launch"].items() if name not in added})
    assert run_folder(command("--resume", str(folder)).stdout, tmp_path) == folder


def test_a_scheduler_stops_members_of_a_stack_and_not_the_stack(tmp_path: Path) -> None:
    sweep = ("--sweep", TOGETHER, "--scale", "smoke", f"task.marks={tmp_path}", "seeds=1", "stack=8", "resources.cpus=1")
    axis = "task.rate=1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0"
    done = launch(*sweep, axis, "task.steps=40", "task.pause_s=0.02", "early_stopping.scheduler=asha", cwd=tmp_path)
    folder = run_folder(done.stdout, tmp_path)
    rows = {trial.configuration: trial for trial in LedgerReader(folder).trials()}
    assert {row.metadata["stacked"] for row in rows.values()} == {4}, "two places, so two stacks"
    assert rows["rate=8"].status == "finished"
    assert rows["rate=1"].status == "stopped"
    assert rows["rate=1"].reason.startswith("by the scheduler at step ")
    metrics = LedgerReader(folder).metrics()
    totals = metrics[metrics.name == "val/total"]
    assert totals[totals.trial_id == rows["rate=8"].trial_id].step.tolist() == list(range(2, 41, 2)), "nothing disturbs it"
    assert totals[totals.trial_id == rows["rate=1"].trial_id].step.max() < 20, "it saved most of its steps"
    assert all(row.attempts == 1 for row in rows.values())
