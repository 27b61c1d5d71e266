"""A run folder that comes from elsewhere is data: it runs no code, reads no other file and deletes nothing."""

import json
import re
import shutil
import sqlite3
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from ddl import ledger_reader, run_report
from ddl.launch import BAD_INPUT, main
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.reports import artefacts
from ddl.reports.wording import ABSENT, MINUS
from ddl.run_folder import LEDGER, check_links
from ddl.storage.runs import RunStore
from ddl.sweeps import prepare, rest_of_run
from ddl.sweeps.new_run import begin_run
from ddl.sweeps.prepare import RunOptions
from ddl.tracking.records import LedgerReplay
from tests.ledgers import edited_ledger

from .ledgers import ReportingLedger

SMALL = ("seeds=1", "latency=none", "wandb.mode=disabled", "task.precision=fp32", "task.train_limit=32", "task.val_limit=16")
PLAN = {
    "num_workers": 1,
    "min_workers": 1,
    "strategy": "ddp",
    "concurrent": 1,
    "cpus_per_trial": 1,
    "gpus_per_trial": 0.0,
    "precision": "fp32",
}


def begun(folder: Path, sweep: str = "augmentation", url: str = "", *overrides: str, small: Sequence[str] = SMALL) -> Path:
    """A run of the user's own that was interrupted before its first step."""
    folder.mkdir(parents=True)
    problems: list[str] = []
    prepared = prepare.prepare_run(sweep, RunOptions((*small, *overrides), "smoke", "inline", None), problems)
    assert prepared is not None, problems
    with begin_run(prepared, folder, "", str(folder), url) as opened:
        opened.note(plan=PLAN)
    return folder


def alter(folder: Path, statement: str, *values: Any) -> None:
    """Change a ledger as a stranger could."""
    with edited_ledger(folder) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(statement, values)


def record(folder: Path, **values: Any) -> None:
    for key, value in values.items():
        alter(folder, "INSERT OR REPLACE INTO run (key, value) VALUES (?, ?)", key, json.dumps(value))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return begun(tmp_path / "runs" / "own")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A run that another user began, with a trial that can be reported."""
    folder = begun(tmp_path / "runs" / "received")
    alter(folder, "DELETE FROM run WHERE key = 'mark'")
    with ReportingLedger(folder) as opened:
        trial = opened.trials()[0]
        opened.started(trial.trial_id, 0, "there cpu")
        opened.measured(trial.trial_id, 1, 1, 0.5, {"val/accuracy": 0.5, "train/loss": 2.0}, {"total_steps": 1})
        opened.ended(trial.trial_id, "finished")
    return folder


def first_trial(folder: Path) -> str:
    return LedgerReader(folder).trials()[0].trial_id


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it refuses its input: one line, and no traceback."""
    assert main(arguments) == BAD_INPUT
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


# Code


PLUGIN = """
import pathlib
pathlib.Path({mark!r}).touch()
from collections.abc import Iterator
from pydantic.dataclasses import dataclass
from ddl.progress import Progress
from ddl.tasks.classification import Classification
from tests.ledgers import edited_ledger
from ddl.tasks.task import STRICT

@dataclass(frozen=True, config=STRICT)
class Evil(Classification):
    pass
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `received_plugin` on the path, and the file that it creates when it is imported."""
    mark = tmp_path / "imported"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "received_plugin.py").write_text(PLUGIN.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "received_plugin", raising=False)
    return mark


def actions(folder: Path, trial_id: str) -> list[tuple[str, ...]]:
    return [("--resume", str(folder)), ("--export", str(folder), trial_id), ("--reproduce", f"{folder}/trials/{trial_id}")]


def prepare_actions(folder: Path) -> str:
    """Give the first trial what export and reproduce ask for before they build its task, and return its id."""
    trial_id = first_trial(folder)
    metadata = {"total_steps": 1, "first_steps": {"steps": [1], "losses": ["0x1p0"], "state": "", "threads": 1}}
    alter(folder, "UPDATE trials SET status = 'finished', metadata = ? WHERE trial_id = ?", json.dumps(metadata), trial_id)
    from ddl import checkpoints

    checkpoints.store(folder / "trials" / trial_id / "checkpoints", trial_id, 1, {"task": {}})
    return trial_id


@pytest.mark.parametrize("action", range(3), ids=["resume", "export", "reproduce"])
def test_no_module_outside_ddl_is_imported(foreign, plugin, capsys, action):
    trial_id = prepare_actions(foreign)
    record(foreign, task_class="received_plugin.Evil")
    said = refused(capsys, *actions(foreign, trial_id)[action])
    assert not plugin.exists()
    assert "received_plugin" in said
    assert "--trust" in said


@pytest.mark.parametrize("action", range(3), ids=["resume", "export", "reproduce"])
@pytest.mark.parametrize(
    "path", ["subprocess.Popen", "ddl.tracking.follower_process.subprocess", "ddl.export.shutil.rmtree", "os.system", ""]
)
def test_nothing_but_a_task_is_constructed(foreign, tmp_path, capsys, action, path):
    trial_id = prepare_actions(foreign)
    record(foreign, task_class=path)
    alter(foreign, "UPDATE trials SET task = ?", json.dumps({"args": f"touch {tmp_path}/ran", "shell": True}))
    refused(capsys, *actions(foreign, trial_id)[action])
    time.sleep(0.2)
    assert not (tmp_path / "ran").exists()


def test_a_plugin_is_imported_with_trust(foreign, plugin):
    record(foreign, task_class="received_plugin.Evil")
    with Ledger(foreign) as opened:
        assert rest_of_run.prepare_resume(opened, None, None, trust=True).trials
    assert plugin.exists()


def test_a_plugin_of_an_own_run_is_imported_without_a_word(own, plugin, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "task").mkdir()
    from ddl import yamlfile

    values = (
        (yamlfile.FOLDER / "task" / "classification.yaml")
        .read_text()
        .replace("ddl.tasks.classification.Classification", "received_plugin.Evil")
    )
    (tmp_path / "task" / "received.yaml").write_text(values)
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "task: received\ntitle: T\nmetric: {name: val/accuracy, mode: max}\nplugins: [received_plugin]\nscale: {smoke: {task.content: sample}}\n"
    )
    folder = begun(tmp_path / "runs" / "mine", str(tmp_path / "sweep" / "mine.yaml"))
    with Ledger(folder) as opened:
        assert rest_of_run.prepare_resume(opened, None, None).trials
    record(folder, task_class="received_plugin.Other")
    with Ledger(folder) as opened, pytest.raises(ValueError, match="--trust"):
        rest_of_run.prepare_resume(opened, None, None)


def test_a_mark_of_another_run_is_worth_nothing(own, foreign, plugin):
    record(foreign, mark=LedgerReader(own).run()["mark"], task_class="received_plugin.Evil")
    with Ledger(foreign) as opened, pytest.raises(ValueError, match="--trust"):
        rest_of_run.prepare_resume(opened, None, None)


# Files that hyperparameters name, and the place that a run is uploaded to


FILES = [
    ("text_generation", "script", "/proc/self/environ"),
    ("sentiment", "vectors", "/proc/self/environ"),
    ("transfer", "weights", "/etc/weights.pth"),
]


@pytest.mark.parametrize(("sweep", "hyperparameter", "value"), FILES)
@pytest.mark.parametrize("action", range(3), ids=["resume", "export", "reproduce"])
def test_no_file_that_a_hyperparameter_names_is_read(tmp_path, capsys, sweep, hyperparameter, value, action):
    folder = begun(tmp_path / "run", sweep, "", small=())
    record(folder, launch=LedgerReader(folder).run()["launch"] | {"latency": "none"})
    alter(folder, "UPDATE trials SET task = json_set(task, ?, ?)", f"$.{hyperparameter}", value)
    trial_id = prepare_actions(folder)
    alter(folder, "UPDATE trials SET status = 'planned' WHERE position > 0")
    said = refused(capsys, *actions(folder, trial_id)[action])
    assert value in said
    assert "--trust" in said


def test_a_file_that_an_own_run_names_is_read_on_resume(tmp_path):
    (tmp_path / "script.txt").write_text("to be or not to be " * 500)
    folder = begun(tmp_path / "run", "text_generation", "", f"task.script={tmp_path}/script.txt", small=())
    with Ledger(folder) as opened:
        assert all(trial.task.script == f"{tmp_path}/script.txt" for trial in rest_of_run.prepare_resume(opened, None, None).trials)


def test_nothing_is_written_to_the_place_that_a_foreign_run_names(foreign, tmp_path, capsys):
    record(foreign, url=f"file://{tmp_path}/other")
    said = refused(capsys, "--resume", str(foreign))
    assert not (tmp_path / "other").exists()
    assert "--trust" in said


# SQLite's journals


def journal(super_journal: Path | None, ledger_file: Path) -> bytes:
    """A hot journal without pages, that names a super-journal."""
    pages = len(ledger_file.read_bytes()) // 4096
    header = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", 0, 0, pages, 512, 4096)
    content = header.ljust(512, b"\0")
    if super_journal is not None:
        name = str(super_journal).encode()
        checksum = sum(byte if byte < 128 else byte - 256 for byte in name) & 0xFFFFFFFF
        content += struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">II", len(name), checksum) + header[:8]
    return content


@pytest.mark.parametrize("command", [["--report"], ["--resume"], ["--publish"]])
def test_a_journal_deletes_no_file(foreign, tmp_path, capsys, command):
    victim = tmp_path / "thesis.tex"
    victim.write_text("years of work")
    (foreign / f"{LEDGER}-journal").write_bytes(journal(victim, foreign / LEDGER))
    said = refused(capsys, *command, str(foreign))
    assert victim.read_text() == "years of work"
    assert f"{LEDGER}-journal" in said
    assert "super-journal" in said


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_reader_leaves_the_journal_of_a_killed_writer(foreign):
    (foreign / f"{LEDGER}-journal").write_bytes(journal(None, foreign / LEDGER))
    before = contents(foreign)
    assert LedgerReader(foreign).metrics().value.tolist() == [0.5, 2.0]
    assert contents(foreign) == before


def test_a_ledger_with_a_write_ahead_log_is_refused(foreign, capsys):
    with closing(sqlite3.connect(foreign / LEDGER)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    said = refused(capsys, "--report", str(foreign))
    assert "write-ahead log" in said
    (foreign / f"{LEDGER}-wal").touch()
    assert "write-ahead log" in refused(capsys, "--report", str(foreign))


def test_a_reader_of_a_live_run_sees_each_transaction(own):
    trial_id = first_trial(own)
    with ReportingLedger(own) as writer:
        reader = LedgerReader(own)
        for step in range(1, 4):
            writer.measured(trial_id, step, 0, 0.0, {"x": step}, {})
            assert reader.metrics().step.tolist() == list(range(1, step + 1))
        writer._db.execute("BEGIN IMMEDIATE")
        writer._db.execute("DELETE FROM metrics")
        assert reader.metrics().step.tolist() == [1, 2, 3], "a transaction that is not committed is not seen"
        writer._db.rollback()


def test_what_is_downloaded_is_checked(foreign, tmp_path, monkeypatch):
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "cache"))
    alter(foreign, "CREATE VIEW more AS SELECT 1")
    with pytest.raises(ValueError, match="view more"):
        RunStore(tmp_path / "local", f"file://{foreign}").download_ledgers()
    assert not (tmp_path / "local" / LEDGER).exists()


# Links and names


SECRET = "canary0secret"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "private" / "secret.txt"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


def shown(folder: Path) -> str:
    """The texts of the report and of W&B's records."""
    run_report.write_report([folder], folder / "report.html")
    replay = LedgerReplay(folder)
    replay.poll()
    records = [replay.record(trial) for trial in replay.trials]
    sent = [*(text for each in records for text in each.samples.values())]
    sent += [path.read_text() for each in records for path in each.figures.values()]
    return (folder / "report.html").read_text() + "".join(sent)


@pytest.mark.parametrize("linked", ["samples/text.txt", "samples", "", "figures/a.svg"])
def test_a_link_shows_no_other_file(foreign, secret, capsys, linked):
    if linked.endswith(".svg"):
        secret.write_text(f"<svg>{SECRET}</svg>")
    target = secret
    place = foreign / "trials" / first_trial(foreign) / linked
    if linked in ("", "samples"):
        (secret.parent / "samples").mkdir()
        shutil.copy(secret, secret.parent / "samples")
        target = secret.parent if linked == "" else secret.parent / "samples"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    assert SECRET not in shown(foreign)
    for command in ("--report", "--resume", "--publish"):
        assert "symbolic link" in refused(capsys, command, str(foreign))


def test_the_links_that_the_wandb_client_makes_in_its_draft_are_no_reason_to_refuse(foreign, secret):
    draft = foreign / "wandb" / ".draft"
    draft.mkdir(parents=True)
    (draft / "debug.log").symlink_to(secret)
    check_links(foreign)
    shutil.rmtree(draft)
    draft.symlink_to(secret.parent)
    with pytest.raises(ValueError, match="symbolic link"):
        check_links(foreign)


@pytest.mark.parametrize("action", [0, 1, 2])
def test_no_module_of_the_folder_that_a_run_names_is_imported(foreign, tmp_path, capsys, action):
    """The folder would come first in `sys.path`, so a module in it could have the name of any that ddl imports later."""
    (foreign / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "private").write_text("secret")
    record(foreign, code_folder=str(foreign), code={str(tmp_path / "private"): "00"}, task_class="ddl.tasks.evil.Evil")
    trial = prepare_actions(foreign)
    path = list(sys.path)
    main(actions(foreign, trial)[action])
    assert "private" not in capsys.readouterr().err
    assert sys.path == path
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("entry", [{"code_folder": 5}, {"code": ["a"]}, {"measurements": "many"}, {"changed_code": 3}])
def test_entries_about_code_of_another_type_are_refused(foreign, capsys, entry):
    record(foreign, **entry)
    assert f"in the run's record, {next(iter(entry))} is a " in refused(capsys, "--resume", str(foreign))


def test_an_id_is_no_path(foreign, secret, capsys):
    (foreign / "trials").mkdir(exist_ok=True)
    (secret.parent / "samples").mkdir()
    shutil.copy(secret, secret.parent / "samples")
    alter(foreign, "UPDATE trials SET trial_id = '../../../private' WHERE position = 0")
    alter(foreign, "UPDATE metrics SET trial_id = '../../../private'")
    for command in ("--report", "--resume"):
        assert "trial id" in refused(capsys, command, str(foreign))
    with pytest.raises(ValueError, match="trial id"):
        LedgerReplay(foreign).poll()


def test_no_link_is_written_through(foreign, secret, capsys):
    (foreign / "launch.log").symlink_to(secret)
    for command in ("--report", "--resume", "--publish"):
        assert "launch.log" in refused(capsys, command, str(foreign))
    assert secret.read_text() == SECRET


def test_a_trial_that_two_sweeps_share_is_shown_in_both(tmp_path):
    one, two = (begun(tmp_path / "runs" / name) for name in ("one", "two"))
    trial_id = first_trial(one)
    (one / "trials" / trial_id / "samples").mkdir(parents=True)
    (one / "trials" / trial_id / "samples" / "text.txt").write_text("once upon a time")
    (two / "trials").mkdir()
    (two / "trials" / trial_id).symlink_to(Path("../..") / "one" / "trials" / trial_id, target_is_directory=True)
    assert [text.name for text in artefacts.find_texts(two, LedgerReader(two).trials())] == ["text"]
    assert main(["--report", str(two)]) == 0
    assert "once upon a time" in (two / "report.html").read_text()
    assert main(["--report", str(tmp_path / "runs")]) == 0


def test_names_at_a_url_do_not_leave_the_local_folder(foreign, tmp_path, monkeypatch):
    names = [f"../{LEDGER}", "../../../trials/x/figures/a.png", "trials/../figures/b.png", LEDGER, "trials/x/figures/c.png"]
    monkeypatch.setattr("ddl.storage.remote_folder.RemoteFolder.names", lambda self: names)
    monkeypatch.setattr("ddl.storage.remote_folder.RemoteFolder.download", lambda self, name, target: shutil.copy(foreign / LEDGER, target))
    local = tmp_path / "a" / "b" / "c" / "local"
    local.mkdir(parents=True)
    store = RunStore(local, "file:///nowhere/runs")
    store.download_ledgers()
    store.download_figures()
    written = {path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert written == {f"b/c/local/{LEDGER}", "b/c/local/trials/x/figures/c.png"}


@pytest.mark.parametrize("command", ["--report", "--resume"])
def test_a_link_at_a_file_url_is_not_followed(foreign, secret, tmp_path, monkeypatch, capsys, command):
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "cache"))
    place = foreign / "trials" / first_trial(foreign) / "samples"
    place.mkdir(parents=True)
    (place / "text.txt").symlink_to(secret)
    assert "symbolic link" in refused(capsys, command, f"file://{foreign}")
    assert not [path for path in (tmp_path / "cache").rglob("*.txt") if path.is_file()]


# Objects in a ledger

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["ALTER TABLE trials RENAME TO hidden", f"CREATE VIEW trials AS {ENDLESS}"], "view trials"),
        ([f"CREATE VIEW more AS {ENDLESS}"], "view more"),
        (["CREATE TRIGGER more AFTER INSERT ON events BEGIN DELETE FROM metrics; END"], "trigger more"),
        (["CREATE TABLE more (a)"], "table more"),
        (["ALTER TABLE metrics ADD COLUMN more AS (step + 1)"], "table metrics"),
        (["DROP TABLE events"], "table events"),
    ],
)
@pytest.mark.parametrize("command", ["--report", "--resume"])
def test_a_ledger_has_its_tables_and_nothing_else(foreign, capsys, monkeypatch, statements, said, command):
    monkeypatch.setattr(ledger_reader, "READ_S", 5.0)
    with edited_ledger(foreign) as db:
        for statement in statements:
            db.execute(statement)
    message = refused(capsys, command, str(foreign))
    assert said in message
    assert LEDGER in message


def test_a_query_without_an_end_is_ended(foreign, monkeypatch):
    reader = LedgerReader(foreign)
    monkeypatch.setattr(ledger_reader, "READ_S", 0.2)
    with pytest.raises(ValueError, match="longer than"), reader._connection() as connection:
        connection.execute(ENDLESS).fetchone()


# Damage


@pytest.mark.parametrize("command", ["--report", "--resume", "follower"])
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE metrics SET value = 'high'", "value"),
        ("UPDATE metrics SET step = 'first'", "step"),
        ("UPDATE metrics SET epoch = 'first'", "epoch"),
        ("UPDATE metrics SET name = x'00ff'", "name"),
        ("UPDATE trials SET seed = 'one'", "seed"),
        ("UPDATE trials SET metadata = '[1]'", "metadata"),
        ("UPDATE trials SET task = 'x'", "task"),
        ("UPDATE trials SET task = '" + "[" * 100_000 + "'", "task"),
        ("UPDATE metrics SET trial_id = 'nobody'", "trial"),
        ("DELETE FROM run WHERE key = 'sweep'", "sweep"),
        ("UPDATE run SET value = '{\"name\": \"x\"}' WHERE key = 'sweep'", "sweep"),
        ("UPDATE run SET value = '[]' WHERE key = 'sweep'", "sweep"),
        ("UPDATE sqlite_master SET sql = replace(sql, 'elapsed_s REAL NOT NULL', 'elapsed_s REAL')", "table metrics"),
    ],
)
def test_damage_is_named_in_a_line(foreign, capsys, command, statement, said):
    alter(foreign, statement)
    if command == "follower":
        with pytest.raises(ValueError, match=LEDGER) as caught:
            LedgerReplay(foreign).poll()
        message = str(caught.value)
    else:
        message = refused(capsys, command, str(foreign))
    assert said in message
    assert LEDGER in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"launch": None}, "the run's record has no launch"),
        ({"launch": []}, "launch is a list"),
        ({"launch": {"x": 1}}, "validation errors for Launch"),
        ({"launch": 3}, "launch is a int"),
        ({"plan": []}, "plan is a list"),
        ({"plan": {"x": 1}}, "KeyError: 'precision'"),
        ({"plan": 3}, "plan is a int"),
        *(({key: None}, f"the run's record has no {key}") for key in ("task_class", "executor")),
        *(({key: []}, f"{key} is a list") for key in ("task_class", "executor")),
        *(({key: {"x": 1}}, f"{key} is a dict") for key in ("task_class", "executor")),
        *(({key: 3}, f"{key} is a int") for key in ("task_class", "executor")),
    ],
)
def test_settings_that_cannot_be_read_are_named_by_resume(foreign, capsys, entry, said):
    record(foreign, **entry)
    message = refused(capsys, "--resume", str(foreign), "--executor", "inline")
    assert LEDGER in message
    assert said in message


def page_lines(page: str) -> list[str]:
    """The texts of a report, and the rows of its tables with ` | ` between the cells and a hyphen for a dash or minus; without the time
    of writing."""
    shown = re.sub(r"<(script|style).*?</\1>|Written \S+", "", page, flags=re.S)
    shown = re.sub(r"</t[dh]>", " | ", re.sub(r"\s+", " ", shown))
    shown = re.sub(r"<[^>]*>", "", re.sub(r"</?(?:tr|p|h\d|dt)[ >]", r"\n\g<0>", shown))
    return [" ".join(unescape(line).replace(ABSENT, "-").replace(MINUS, "-").split()) for line in shown.splitlines()]


def reported(folder: Path) -> list[str]:
    """The lines of a run's report."""
    assert main(["--report", str(folder)]) == 0
    return page_lines((folder / "report.html").read_text())


@pytest.mark.parametrize(
    "metadata",
    ['{"data": 3}', '{"parameters": "many"}', '{"precision": [], "data": {"complete": "x"}}', '{"total_steps": [], "stacked": {}}'],
)
def test_metadata_of_another_shape_are_as_if_there_were_none(foreign, metadata):
    alter(foreign, "UPDATE trials SET metadata = '{}'")
    before = reported(foreign)
    alter(foreign, "UPDATE trials SET metadata = ?", metadata)
    assert reported(foreign) == before


def test_a_swept_value_of_another_shape_changes_no_result(foreign):
    before = reported(foreign)
    alter(foreign, "UPDATE trials SET swept = ?", '{"task.augmentation": {"x": [1]}}')
    assert reported(foreign) == before


def test_a_plan_without_its_allocation_is_reported_without_it(foreign):
    assert {"Precision", "Concurrent trials", "CPU cores per trial"} <= set(reported(foreign))
    record(foreign, plan={"precision": "fp32"})
    lines = reported(foreign)
    assert {"Precision", "fp32"} <= set(lines)
    assert not {"Concurrent trials", "CPU cores per trial"} & set(lines)


def test_a_plan_of_another_shape_is_named_by_report(foreign, capsys):
    record(foreign, plan={"probes": 1, "stacks": "x"})
    assert f"{LEDGER}: no report can be made of this record (TypeError: " in refused(capsys, "--report", str(foreign))


@pytest.mark.parametrize("command", ["--report", "--resume"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1000],
        lambda content: content[:8192] + b"\xff" * (len(content) - 8192),
        lambda content: content[:4096] + bytes(len(content) - 4096),
        lambda content: b"",
    ],
    ids=["half", "the end", "pages", "zeros", "empty"],
)
def test_flipped_and_missing_bytes_are_named(foreign, capsys, command, damage):
    (foreign / LEDGER).write_bytes(damage((foreign / LEDGER).read_bytes()))
    assert LEDGER in refused(capsys, command, str(foreign))


def test_a_metric_of_another_name_is_reported_as_not_measured(foreign):
    alter(foreign, "UPDATE trials SET status = 'finished'")
    alter(foreign, "UPDATE metrics SET name = 'val/other' WHERE name = 'val/accuracy'")
    lines = reported(foreign)
    assert "No trial has a value of val/accuracy (3 finished)." in lines
    assert any(line.startswith("none | 0 of 1; 1 without a value | - | - |") for line in lines)
