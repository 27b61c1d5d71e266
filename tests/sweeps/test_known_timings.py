"""Timings that a later plan of the same sweep finds."""

import dataclasses
import json
import math
import os
import re
import time
from pathlib import Path

import pytest

from ddl.sweeps import known_timings
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.capacity import Capacity, Node
from ddl.sweeps.known_timings import HOLD_S, KnownTimings
from ddl.sweeps.pack import Pack
from ddl.timings import TimingProbe, Timings

from .command import Command
from .plugin.together import Together

FOUND = Timings([TimingProbe("fp32", 0.1, 0.2, 0.3, 0.0, 100, 2, {"parameters": 7}, call_s=math.inf)], {"bf16": "deviates"}, took_s=3.0)


@dataclasses.dataclass
class Counting:
    """An executor that answers `timings`, and counts how often it is asked."""

    timings: Timings = FOUND
    asked: int = 0

    def capacity(self) -> Capacity:
        return Capacity((Node(2),))

    def probe(self, packs, precisions, window_s):
        self.asked += 1
        return [self.timings] * len(packs)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pack(ask):
    """Makes a pack of the trials that overrides give."""

    def pack(*overrides: str, cpus: int = 1, longest_step_s: float = math.inf) -> Pack:
        asked = ask(overrides=overrides)
        assert asked.problems == []
        members = tuple(Assignment(trial.trial_id, trial.task, 1, cpus, 0.0, Path(), 1.0) for trial in asked.trials)
        return Pack(members, len(members) > 1, longest_step_s)

    return pack


def asked(packs: list[Pack], precisions: list[str] | None = None, window_s: float = 0.0, recall: bool = True) -> bool:
    """True if a new plan asks the executor for these timings."""
    executor = Counting()
    known = KnownTimings(executor, recall)
    assert known.probe(packs, precisions, window_s) == [FOUND] * len(packs)
    assert (known.oldest_s is None) == (executor.asked == 1)
    return executor.asked == 1


def test_what_a_plan_timed_is_not_timed_again_also_for_other_seeds(pack):
    assert asked([pack("seeds=1")])
    assert not asked([pack("seeds=1")])
    assert not asked([pack("seeds=1", "first_seed=7")])


def test_whatever_changes_a_timing_is_timed_again(pack, cache: Path, monkeypatch: pytest.MonkeyPatch):
    one = pack("seeds=1")
    assert asked([one])
    assert asked([pack("seeds=1", "task.lr=0.123")])
    assert asked([pack("seeds=2")]), "a stack"
    assert asked([pack("seeds=1", cpus=2)])
    assert asked([pack("seeds=1", longest_step_s=1.0)])
    assert asked([one, one]), "more at once"
    assert asked([one], precisions=["fp32"])
    assert asked([one], window_s=1.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "13")
    assert asked([one])
    monkeypatch.setattr(known_timings, "_code", lambda: "another version of ddl")
    assert asked([one])
    assert not asked([one])
    (cache / "cifar10").mkdir()
    (cache / "cifar10" / "prepare.lock").touch()
    assert not asked([one])
    (cache / "cifar10" / "full-2.safetensors").touch()
    assert asked([one]), "all of the data has been prepared meanwhile"


def test_a_plan_alone_times_again_and_keeps_the_new_timings(pack):
    assert asked([pack("seeds=1")])
    assert asked([pack("seeds=1")], recall=False)
    slower = dataclasses.replace(FOUND, took_s=100.0)
    assert KnownTimings(Counting(slower), recall=False).probe([pack("seeds=1")], None, 0.0) == [slower]
    assert KnownTimings(Counting()).probe([pack("seeds=1")], None, 0.0) == [slower]


@pytest.mark.parametrize("spoilt", ["old", "of tomorrow", "damaged", "of another version", "unreadable", "another user's"])
def test_timings_that_do_not_hold_are_taken_again(spoilt: str, pack, cache: Path):
    assert asked([pack("seeds=1")])
    (path,) = (cache / "timings").iterdir()
    if spoilt == "damaged":
        path.write_bytes(path.read_bytes()[:-9])
    elif spoilt == "of another version":
        path.write_text(json.dumps([{"probes": [{"precision": "fp32"}]}]))
    elif spoilt == "another user's":
        if os.getuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(path, 4242, 4242)
    elif spoilt == "unreadable":
        path.unlink()
        path.mkdir()
    else:
        then = time.time() + {"old": -HOLD_S - 60, "of tomorrow": 24 * 3600}[spoilt]
        os.utime(path, (then, then))
    assert asked([pack("seeds=1")])
    assert asked([pack("seeds=1")]) == (spoilt == "unreadable")


def test_timings_that_do_not_hold_any_more_are_removed(pack, cache: Path):
    assert asked([pack("seeds=1")])
    (old,) = (cache / "timings").iterdir()
    os.utime(old, (0, 0))
    assert asked([pack("seeds=2")])
    assert len(list((cache / "timings").iterdir())) == 1
    assert not old.exists()


@pytest.mark.parametrize("failed", [{"": "the process that timed it died"}, {"fp32": "RuntimeError: no"}])
def test_failures_are_tried_again(failed: dict[str, str], pack):
    executor = Counting(Timings([], failed, "" if "" in failed else "a traceback"))
    for _ in range(2):
        KnownTimings(executor).probe([pack("seeds=1")], None, 0.0)
    assert executor.asked == 2


def test_code_and_files_of_the_users_are_always_timed(pack, tmp_path: Path):
    own = Together(seed=0, rate=1.0, deed="none", steps=4, pause_s=0.0, marks="")
    packs = [
        Pack((dataclasses.replace(pack("seeds=1").first, task=own),)),
        pack("seeds=1", "task.data_set=folder", f"task.path={tmp_path}"),
    ]
    for each in packs:
        assert asked([each])
        assert asked([each])


def test_a_cache_that_cannot_be_written_only_costs_time(pack, cache: Path):
    cache.write_text("a file where the folder should be")
    assert asked([pack("seeds=1")])
    assert asked([pack("seeds=1")])


def test_a_sweep_uses_the_timings_of_its_plan_and_says_so(command: Command, cache: Path):
    sweep = ("--sweep", "cartpole_table", "--scale", "smoke", "--executor", "inline", "wandb.mode=disabled")
    note = r"timings of an earlier plan, [\w. ]+ ago; --plan takes them again"
    assert not re.search(note, command(*sweep, "--plan").stdout)
    timed = {path.name: path.stat().st_mtime_ns for path in (cache / "timings").iterdir()}
    assert len(timed) > 1, "single trials and stacks"
    output = command(*sweep).stdout
    assert re.search(note, output)
    assert "(timed 4 of 4 configurations)" in output
    assert {path.name: path.stat().st_mtime_ns for path in (cache / "timings").iterdir()} == timed
    assert not re.search(note, command(*sweep, "--plan").stdout)
