"""The ledger: one writer, rows in order, durable when it says so, and readable whatever happened to its writer."""

import itertools
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddl import ledger, ledger_reader
from ddl.durable import CannotWrite
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.run_folder import LEDGER

from .ledgers import ReportingLedger

ROOT = Path(__file__).resolve().parents[1]


def trial(name: str, position: int) -> TrialRow:
    return TrialRow(name, position, f"lr={position}", {"task.lr": position / 10}, {"lr": position / 10, "seed": 3}, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with a ledger of the trials a and b; nobody writes to it yet."""
    with ReportingLedger.create(tmp_path, {"scale": "smoke", "launch": {"seeds": 2}}, [trial("b", 0), trial("a", 1)]):
        pass
    return tmp_path


def process(script: str, folder: Path) -> subprocess.Popen:
    """A Python process with the run's folder as `folder`, `ledger` opened by itself where it wants to."""
    start = f"import os, signal, sys, time, pathlib\nfrom ddl.ledger import LedgerReader\nfrom tests.ledgers import ReportingLedger\nfolder = pathlib.Path({str(folder)!r})\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", start + script], env=environment, text=True, **pipes)


def steps(folder: Path, name: str = "a") -> list[int]:
    metrics = LedgerReader(folder).metrics()
    return metrics[metrics.trial_id == name].step.tolist()


# What is written is read


def test_a_run_and_its_trials_in_the_order_of_the_plan(folder):
    reader = LedgerReader(folder)
    assert reader.run() == {"scale": "smoke", "launch": {"seeds": 2}}
    assert [(row.trial_id, row.status, row.swept, row.task, row.seed, row.attempts) for row in reader.trials()] == [
        ("b", "planned", {"task.lr": 0.0}, {"lr": 0.0, "seed": 3}, 3, 0),
        ("a", "planned", {"task.lr": 0.1}, {"lr": 0.1, "seed": 3}, 3, 0),
    ]
    assert reader.metrics().empty
    assert reader.events().empty


def test_a_note_adds_to_the_run_or_replaces(folder):
    with ReportingLedger(folder) as writer:
        writer.note(scale="paper", plan={"eta_s": 3.5})
        assert writer.run() == {"scale": "paper", "launch": {"seeds": 2}, "plan": {"eta_s": 3.5}}


def test_measurements_come_in_the_order_they_were_made_even_if_the_clock_goes_backwards(folder, monkeypatch):
    clock = itertools.count(1_000_000, -1000)
    monkeypatch.setattr(ledger.time, "time", lambda: float(next(clock)))
    with ReportingLedger(folder) as writer:
        writer.started("a", 0, "here")
        for step in (0, 1, 2):
            writer.measured("a", step, None if step == 1 else step, step / 2, {"val/loss": 3.0 - step, "val/accuracy": step}, {})
        writer.ended("a", "finished")
    metrics = LedgerReader(folder).metrics()
    assert metrics.step.tolist() == [0, 0, 1, 1, 2, 2]
    assert metrics.name.tolist() == ["val/loss", "val/accuracy"] * 3
    assert metrics.value.tolist() == [3.0, 0.0, 2.0, 1.0, 1.0, 2.0]
    assert metrics.epoch.tolist()[::2] == [0, metrics.epoch.dtype.na_value, 2]
    assert metrics.seq.is_monotonic_increasing
    assert LedgerReader(folder).events().kind.tolist() == ["started", "finished"]


def test_only_what_is_new_since_a_sequence_number(folder):
    with ReportingLedger(folder) as writer:
        for step in range(4):
            writer.measured("a", step, 0, 0.0, {"x": step}, {})
    seen = LedgerReader(folder).metrics().seq.tolist()
    assert LedgerReader(folder).metrics(after=seen[1]).step.tolist() == [2, 3]
    assert LedgerReader(folder).metrics(after=seen[-1]).empty


def test_measurements_that_are_read_in_parts_are_one_table(folder, monkeypatch):
    with ReportingLedger(folder) as opened:
        for step in range(1, 8):
            opened.measured("a", step, None if step < 4 else 1, 1.0, {"loss": math.nan if step < 4 else step / 8}, {})
    whole = LedgerReader(folder).metrics()
    monkeypatch.setattr(ledger_reader, "ROWS_AT_ONCE", 3)
    parts = LedgerReader(folder).metrics()
    assert parts.step.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert parts.equals(whole), "the same numbers of rows and the same types"


def test_a_figure_that_is_no_number(folder):
    with ReportingLedger(folder) as writer:
        writer.measured("a", 1, 0, 0.0, {"x": float("nan"), "y": float("inf")}, {})
    values = LedgerReader(folder).metrics().value.tolist()
    assert math.isnan(values[0])
    assert values[1] == math.inf


def test_facts_are_merged(folder):
    with ReportingLedger(folder) as writer:
        writer.measured("a", 0, 0, 0.0, {}, {"parameters": 3, "data": {"name": "x"}})
        writer.measured("a", 1, 0, 0.0, {}, {"precision": "fp32", "data": {"train": 9}})
        writer.measured("a", 2, 0, 0.0, {}, {})
    b, a = LedgerReader(folder).trials()
    assert a.metadata == {"parameters": 3, "precision": "fp32", "data": {"name": "x", "train": 9}}
    assert b.metadata == {}


def test_a_trials_life(folder, monkeypatch):
    clock = itertools.count(100)
    monkeypatch.setattr(ledger.time, "time", lambda: float(next(clock)))
    with ReportingLedger(folder) as writer:
        writer.started("a", 0, "here cpu")
        _, a = writer.trials()
        assert (a.status, a.attempts, a.place, a.ended_at) == ("running", 1, "here cpu", None)
        began = a.started_at
        writer.ended("a", "failed", "ValueError: no")
        _, a = writer.trials()
        assert (a.status, a.reason) == ("failed", "ValueError: no")
        assert a.ended_at > began
        writer.started("a", 5, "there cuda:0")
        b, a = writer.trials()
        assert (a.status, a.reason, a.attempts, a.place, a.started_at, a.ended_at) == ("running", "", 2, "there cuda:0", began, None)
        assert (b.status, b.attempts) == ("planned", 0)
    assert LedgerReader(folder).events().detail.tolist() == ["from step 0 at here cpu", "ValueError: no", "from step 5 at there cuda:0"]


def test_an_interruption_plans_what_was_running_again_and_nothing_else(folder):
    with ReportingLedger(folder) as writer:
        writer.started("a", 0, "")
        writer.started("b", 0, "")
        writer.ended("b", "finished")
        writer.interrupted()
        writer.interrupted()  # by the resume, which cannot know whether the driver was killed
        assert writer.events().kind.tolist().count("interrupted") == 1
        assert [row.status for row in writer.trials()] == ["finished", "planned"]


def test_a_status_that_there_is_not_is_refused(folder):
    with ReportingLedger(folder) as writer:
        with pytest.raises(AssertionError):
            writer.ended("a", "running")
        with pytest.raises(AssertionError):
            writer.ended("a", "done")


# Attempts


def test_what_was_measured_after_the_checkpoint_is_removed_when_the_trial_starts_again(folder):
    with ReportingLedger(folder) as writer:
        for step in (0, 10, 20, 30):
            writer.measured("b", step, 0, 0.0, {"x": step}, {})
            writer.measured("a", step, 0, 0.0, {"x": step}, {})
        writer.started("a", 10, "")
        assert steps(folder, "a") == [0, 10], "what the checkpoint contains is not measured again"
        assert steps(folder, "b") == [0, 10, 20, 30]
        writer.measured("a", 20, 0, 0.0, {"x": 21}, {})
    metrics = LedgerReader(folder).metrics()
    assert metrics[metrics.trial_id == "a"].value.tolist() == [0, 10, 21]
    assert metrics.seq.is_monotonic_increasing
    assert metrics.seq.is_unique
    assert metrics.seq.max() == 9, "a number is never used again"


def test_a_trial_that_starts_from_nothing_has_nothing_measured_twice(folder):
    with ReportingLedger(folder) as writer:
        for _ in range(2):
            writer.started("a", 0, "")
            for step in (0, 1):
                writer.measured("a", step, 0, 0.0, {"x": step}, {})
    assert steps(folder) == [0, 1]


# One writer


def test_a_second_writer_is_refused_in_words(folder):
    with (
        ReportingLedger(folder),
        pytest.raises(ValueError, match=r"another process is running this sweep\. Wait for it, or stop it first\."),
    ):
        ReportingLedger(folder)
    with ReportingLedger(folder):
        pass


def test_the_lock_ends_with_an_exception(folder):
    with pytest.raises(ZeroDivisionError), ReportingLedger(folder):
        raise ZeroDivisionError
    with ReportingLedger(folder):
        pass


def test_a_reader_is_let_in_while_another_writes(folder):
    with ReportingLedger(folder):
        assert len(LedgerReader(folder).trials()) == 2


def test_of_twenty_that_race_one_becomes_the_owner_and_its_kill_frees_the_lock(folder):
    racers = [
        process(
            "while not (folder / 'go').exists(): time.sleep(0.001)\n"
            "try:\n"
            "    with ReportingLedger(folder) as writer:\n"
            "        print('owner', flush=True)\n"
            "        sys.stdin.read()\n"
            "except ValueError as error:\n"
            "    print(error, flush=True)\n",
            folder,
        )
        for _ in range(20)
    ]
    (folder / "go").touch()
    said = [racer.stdout.readline().strip() for racer in racers]
    owner = racers[said.index("owner")]
    try:
        assert said.count("owner") == 1
        assert all("another process is running this sweep" in line for line in said if line != "owner")
        with pytest.raises(ValueError, match="another process"):
            ReportingLedger(folder)
    finally:
        owner.kill()
        for racer in racers:
            racer.communicate()
    with ReportingLedger(folder) as writer:
        writer.started("a", 0, "")


# Kills


def test_a_completion_is_durable_when_it_has_returned(folder):
    writer = process("writer = ReportingLedger(folder)\nwriter.ended('a', 'finished')\nos.kill(os.getpid(), signal.SIGKILL)", folder)
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    assert [row.status for row in LedgerReader(folder).trials()] == ["planned", "finished"]


def crashed(folder: Path, copy: Path) -> None:
    """What lies on the disk where a writer is killed while its transaction reaches the file."""
    with ReportingLedger(folder) as writer:
        writer._db.execute("PRAGMA cache_size = 1")
        writer._db.execute("BEGIN")
        for step in range(3000):
            writer._db.execute("INSERT INTO metrics (trial_id, step, elapsed_s, name, value) VALUES ('a', ?, 0.0, 'x', 1.0)", (step,))
        shutil.copytree(folder, copy)
        writer._db.rollback()
    assert (copy / f"{LEDGER}-journal").stat().st_size > 0
    assert (copy / LEDGER).stat().st_size > (folder / LEDGER).stat().st_size


@pytest.mark.parametrize("first", [LedgerReader, Ledger])
def test_what_a_killed_writer_left_half_written_is_taken_back_by_whoever_comes_first(folder, tmp_path_factory, first):
    with ReportingLedger(folder) as writer:
        writer.measured("a", 1, 0, 0.0, {"x": 1.0}, {})
    copy = tmp_path_factory.mktemp("crash") / "run"
    crashed(folder, copy)
    opened = first(copy)
    assert opened.metrics().step.tolist() == [1]
    assert len(opened.trials()) == 2
    if isinstance(opened, Ledger):
        opened.__exit__()
    with ReportingLedger(copy) as writer:
        writer.measured("a", 2, 0, 0.0, {"x": 1.0}, {})
        assert steps(copy) == [1, 2]


def test_kills_at_random_moments_lose_nothing_that_was_written(folder):
    moments = random.Random(0)
    last = 0
    for _ in range(6):
        writer = process(
            f"with ReportingLedger(folder) as writer:\n"
            f"    for step in range({last + 1}, {last + 10_000}):\n"
            f"        writer.measured('a', step, 0, 0.0, {{'x': step, 'y': step}}, {{'step': step}})\n"
            f"        print(step, flush=True)\n",
            folder,
        )
        writer.stdout.readline()
        time.sleep(moments.uniform(0, 0.05))
        writer.kill()
        said = writer.communicate()[0].split()
        found = steps(folder)
        assert len(found) % 2 == 0, "both figures of a measurement or neither"
        assert found[::2] == list(range(1, found[-1] + 1))
        assert found[-1] >= (int(said[-1]) if said else last + 1)
        last = found[-1]
        assert LedgerReader(folder).trials()[1].metadata == {"step": last}


def test_a_reader_sees_whole_measurements_while_they_are_written(folder):
    writer = process(
        "with ReportingLedger(folder) as writer:\n"
        "    print('ready', flush=True)\n"
        "    for step in range(60):\n"
        "        writer.measured('a', step, 0, 0.0, {'x': step, 'y': step}, {})\n",
        folder,
    )
    writer.stdout.readline()
    counts = [0]
    while writer.poll() is None:
        found = steps(folder)
        assert found == [step for step in range(len(found) // 2) for _ in range(2)]
        counts.append(len(found))
    writer.communicate()
    assert counts == sorted(counts)
    assert len(steps(folder)) == 120


# What is no ledger, and what once was one


def test_a_folder_that_is_no_runs(tmp_path):
    for kind in (LedgerReader, Ledger):
        with pytest.raises(ValueError, match=r"not a run folder, it has no ledger\.sqlite"):
            kind(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_name_means_something_in_a_url(tmp_path):
    folder = tmp_path / "50% of a? #1 %20 ü"
    folder.mkdir()
    with ReportingLedger.create(folder, {"a": 1}, [trial("a", 0)]) as writer:
        assert writer.run() == {"a": 1}


def test_a_ledger_of_a_later_version(folder):
    with sqlite3.connect(folder / LEDGER) as db:
        db.execute("PRAGMA user_version = 4")
    db.close()
    with pytest.raises(ValueError, match=r"ledger schema 4, this version of ddl reads 3\. Use the version that wrote it\."):
        LedgerReader(folder)


def test_a_ledger_appears_complete_or_not_at_all(tmp_path):
    watched = []

    def trials():
        for position, trial_id in enumerate("abc"):
            watched.append((tmp_path / LEDGER).exists())
            yield trial(trial_id, position)

    with ReportingLedger.create(tmp_path, {}, trials()):
        pass
    assert watched == [False] * 3, "nobody can open it while it is written"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".sqlite"] == [LEDGER]

    (tmp_path / "full").mkdir()
    with pytest.raises(ZeroDivisionError):
        ReportingLedger.create(tmp_path / "full", {}, (trial("a", 1 // 0) for _ in range(1)))
    assert list((tmp_path / "full").iterdir()) == []


def read_all(folder: Path) -> None:
    reader = LedgerReader(folder)
    reader.run()
    reader.trials()
    reader.metrics()
    reader.events()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"SQLite, but not really" * 500,
        lambda content: content[:100],
        lambda content: content[:4096],
        lambda content: content[: len(content) // 2],
        lambda content: content[:4096] + bytes(len(content) - 4096),
        lambda content: content[:4096] + b"\xff" * 4096 + content[8192:],
        lambda content: content[:8192] + b"\xff" * (len(content) - 8192),
        lambda content: content.replace(b'"seeds"', b'"seed\xff"'),
        lambda content: content.replace(b'{"seeds": 2}', b'{"seeds": 2 '),
    ],
    ids=["text", "100 bytes", "a page", "half", "zeros", "second page", "later pages", "no utf-8", "no json"],
)
def test_a_damaged_ledger_is_named_and_not_believed(folder, damage):
    with ReportingLedger(folder) as writer:
        for step in range(200):
            writer._db.execute("INSERT INTO metrics (trial_id, step, elapsed_s, name, value) VALUES ('a', ?, 0.0, 'x', 1.0)", (step,))
        writer._db.commit()
    content = (folder / LEDGER).read_bytes()
    read_all(folder)
    assert damage(content) != content
    (folder / LEDGER).write_bytes(damage(content))
    with pytest.raises(
        ValueError, match=rf"{folder}/ledger\.sqlite: cannot be read as a ledger \(.*\)\. Restore it from a copy\."
    ) as caught:
        read_all(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ("UPDATE metrics SET value = 2 * value WHERE seq = 1", "row 1 of metrics"),
        ("UPDATE metrics SET value = NULL WHERE seq = 1", "row 1 of metrics"),
        ("UPDATE metrics SET name = 'val/losr' WHERE seq = 1", "row 1 of metrics"),
        ("UPDATE trials SET task = replace(task, '{', '{ ') WHERE trial_id = 'a'", "row 2 of trials"),
        ("UPDATE trials SET status = 'finished' WHERE trial_id = 'a'", "row 2 of trials"),
        ("UPDATE events SET kind = 'begun' WHERE seq = 1", "row 1 of events"),
        ("UPDATE run SET value = '{\"seeds\": 3}' WHERE key = 'launch'", "row 2 of run"),
    ],
)
def test_a_changed_value_is_noticed_though_the_file_is_sound(folder, change, row):
    with ReportingLedger(folder) as writer:
        writer.started("a", 0, "here", {"classes": ["é", "\ud800"]})
        writer.measured("a", 1, None, -0.0, {"val/loss": 1e300, "val/accuracy": math.nan}, {})
        writer.measured("a", 2, 1, 7, {"val/loss": 2}, {})
        writer.interrupted()
    read_all(folder)
    with sqlite3.connect(folder / LEDGER) as db:
        assert db.execute(change).rowcount == 1
    db.close()
    for kind in (LedgerReader, Ledger):
        with pytest.raises(ValueError, match=rf"ledger\.sqlite: cannot be read as a ledger \({row} is damaged: .*\)\. Restore it"):
            kind(folder)


@pytest.mark.parametrize("table", ["metrics", "events"])
def test_damage_is_named_where_it_is_read_first(folder, table):
    with ReportingLedger(folder) as writer:
        for step in range(200):
            writer.measured("a", step, 0, 0.0, {"x": step}, {})
            writer.event("noted", "x" * 50)
    content = (folder / LEDGER).read_bytes()
    reader = LedgerReader(folder)
    (folder / LEDGER).write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    with pytest.raises(ValueError, match=r"ledger\.sqlite: cannot be read as a ledger"):
        getattr(reader, table)()


def test_a_trial_that_was_not_planned_can_be_added_and_its_changes_are_kept(tmp_path):
    with ReportingLedger.create(tmp_path, {}, []) as ledger:
        ledger.add(TrialRow("a", 0, "drawn", {"task.lr": 0.1}, {"lr": 0.1}, 0))
        ledger.started("a", 0, "here", {"changed": {"lr": 0.1}})
        ledger.started("a", 5, "here", {"changed": {"lr": 0.2}})
    (row,) = LedgerReader(tmp_path).trials()
    assert (row.configuration, row.swept, row.metadata) == ("drawn", {"task.lr": 0.1}, {"changed": {"lr": 0.2}})
    assert LedgerReader(tmp_path).events().detail.iloc[-1] == 'from step 5 at here, changed {"lr": 0.2}'


# A file that cannot be written


def test_a_full_disk_leaves_the_ledger_as_it_was(folder):
    with ReportingLedger(folder) as ledger:
        ledger.started("a", 0, "here")
        (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
        ledger._db.execute(f"PRAGMA max_page_count = {pages}")
        many = {f"val/{number}": 0.5 for number in range(10_000)}
        with pytest.raises(CannotWrite, match=r"ledger\.sqlite: cannot be written \(database or disk is full\)") as caught:
            ledger.measured("a", 1, None, 0.0, many, {})
        assert caught.value.needed == "Free some space there"
        assert steps(folder) == [], "nothing of the transaction is left"
        ledger._db.execute("PRAGMA max_page_count = 1000000")
        ledger.measured("a", 1, None, 0.0, {"val/loss": 0.5}, {})
    assert steps(folder) == [1]


def test_a_reader_that_holds_the_file_delays_the_writer_up_to_a_limit(folder, monkeypatch):
    monkeypatch.setattr(ledger, "LOCKED_S", 0.0)
    with ReportingLedger(folder) as writer:
        writer._db.execute("PRAGMA busy_timeout = 0")
        reader = sqlite3.connect(folder / LEDGER, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM trials").fetchall()
        with pytest.raises(CannotWrite, match="locked") as caught:
            writer.started("a", 0, "here")
        assert caught.value.needed == "End the program that has it open"
        monkeypatch.setattr(ledger, "LOCKED_S", 1000.0)
        execute = writer._when_unlocked

        def release(statement: str) -> None:
            if statement == "COMMIT":
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    writer._db.execute(statement)
                reader.close()
            execute(statement)

        monkeypatch.setattr(writer, "_when_unlocked", release)
        writer.started("a", 0, "here")
    assert [row.status for row in LedgerReader(folder).trials()] == ["planned", "running"]


def test_a_ledger_that_cannot_be_opened_is_not_locked(folder, monkeypatch):
    def full(path):
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_connect", full)
        with pytest.raises(sqlite3.OperationalError) as kept:  # with the ledger in its traceback, as a notebook keeps it
            Ledger(folder)
    with Ledger(folder):
        pass
    assert kept
