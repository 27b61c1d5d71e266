"""Safe reading of a ledger that may come from someone else.

The file is opened read-only, its journal is never touched, and other tables than ddl's, values of the wrong type and damaged pages are
refused.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ddl.scratch import scratch_folder

_RECORD = {
    "changed_code": list, "code": dict, "code_folder": str, "command": str, "commit": str, "confirms": dict, "confirms.compared": int, "confirms.configurations": dict, "confirms.created": str,
    "confirms.evaluations": dict, "confirms.folder": str, "confirms.holdout": float, "confirms.measure": str, "confirms.metric": dict, "confirms.test_seen": bool, "confirms.winner": str, "created": str, "diff": str, "executor": str, "files": list, "host": dict, "launch": dict, "mark": str, "measurements": int, "overrides": list, "plan": dict, "plan.cpus_per_trial": int,
    "plan.num_workers": int, "plan.precision": str, "population": dict, "race": dict, "resume": str, "scale": str, "search": dict, "sweep": dict, "sweep.forced": list, "sweep.keys": list, "sweep.metric": dict,
    "sweep.metric.mode": str, "sweep.metric.name": str, "sweep.name": str, "sweep.reference": dict, "sweep.task": str, "sweep.title": str,
    "task_class": str, "url": str, "versions": dict,
}  # fmt: skip
"""Types of the entries of the run's record, and of those inside them. An entry may also be missing or null."""

_METADATA: dict[str, Any] = {
    "changed": dict, "classes": list, "device": dict, "first_steps": dict, "latency": dict, "left_behind": str, "only_here": str, "parameters": int, "precision": str,
    "stacked": int, "total_steps": int,
    "data": {"name": str, "source": str, "fallback_for": str, "sha256": str, "complete": bool, "train": int, "val": int},
}  # fmt: skip
"""Types of the entries of a trial's metadata that ddl reads."""

_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""The last bytes of a journal that names a super-journal (sqlite.org/fileformat2.html, section 3.1)."""


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the ledger at `path` that sees its last transaction and changes no file next to it.

    The journal that a killed writer left is rolled back in a copy of both files. Raises ValueError for a journal that SQLite could
    not roll back without touching other files, and sqlite3.DatabaseError.
    """
    journal = Path(f"{path}-journal")
    for file in (path, journal):
        if file.is_symlink():
            raise ValueError(f"{file.name} is a symbolic link")
    if any(os.path.lexists(f"{path}{ending}") for ending in ("-wal", "-shm")):
        raise ValueError("it has a write-ahead log, which ddl does not write")
    _check_journal(journal)
    with closing(_connect_reader(path, "ro")) as connection:
        if not _needs_rollback(connection):
            if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                raise ValueError("it has a write-ahead log, which ddl does not write")
            yield connection
            return
    with scratch_folder("ledger") as scratch:
        copy = scratch / path.name
        _copy_with_journal(path, journal, copy)
        _check_journal(Path(f"{copy}-journal"))
        with closing(_connect_reader(copy, "rw")) as connection:
            yield connection


def _connect_reader(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=30)
    # As sqlite.org/security.html recommends for a file from elsewhere.
    for setting in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def _needs_rollback(connection: sqlite3.Connection) -> bool:
    """True if a killed writer left a journal, which a read-only connection does not roll back."""
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return True
        raise
    return False


def _check_journal(journal: Path) -> None:
    """Raise ValueError if a journal names a super-journal: rolling it back deletes that file, and no ledger has one."""
    try:
        with journal.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - len(_JOURNAL_MAGIC), 0))
            end = file.read()
    except FileNotFoundError:
        return
    if end == _JOURNAL_MAGIC:
        raise ValueError(f"{journal.name} names a super-journal, which SQLite would delete")


def _copy_with_journal(path: Path, journal: Path, copy: Path) -> None:
    """Copy a ledger and its journal as they were at one moment, although a resumed run may change both meanwhile."""

    def versions() -> list[tuple[int, int]]:
        return [(file.stat().st_mtime_ns, file.stat().st_size) for file in (path, journal)]

    for _ in range(10):
        before = versions()
        shutil.copyfile(path, copy)
        shutil.copyfile(journal, f"{copy}-journal")
        if versions() == before:
            return
    raise ValueError("it changes all the time although its writer was killed")


@cache
def _objects(schema: str) -> frozenset[tuple[Any, ...]]:
    """(type, name, SQL) of every object that the SQL `schema` creates."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema)
        return frozenset(db.execute("SELECT type, name, sql FROM sqlite_master"))


def check_schema(connection: sqlite3.Connection, schema: str) -> None:
    """Raise ValueError if the ledger has other tables than `schema` (SQL), or anything else, such as a view that runs without end."""
    other = _objects(schema) ^ set(connection.execute("SELECT type, name, sql FROM sqlite_master"))
    if other:
        names = sorted({(kind == "index", repr(f"{kind} {name}"[:100])) for kind, name, _ in other})
        raise ValueError(f"not as ddl writes it: {', '.join(name for _, name in names[:5])}")


def check_content(connection: sqlite3.Connection) -> None:
    """Raise ValueError for damaged pages, values of the wrong type, and measurements of no trial."""
    (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise ValueError(result)
    for table in ("run", "trials", "metrics", "events"):
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        wrong = " ".join(
            f"WHEN typeof({name}) <> '{kind.lower()}' AND {1 if required else f'{name} IS NOT NULL'} THEN '{name}'"
            for _, name, kind, required, *_ in columns
        )
        found = connection.execute(f"SELECT * FROM (SELECT rowid, CASE {wrong} END AS wrong FROM {table}) WHERE wrong IS NOT NULL LIMIT 1")
        for row, column in found:
            raise ValueError(f"row {row} of {table}: {column} has the wrong type")
    for row in connection.execute(
        f"SELECT seq FROM metrics WHERE step NOT BETWEEN 0 AND {2**53} OR epoch NOT BETWEEN 0 AND {2**53} LIMIT 1"
    ):
        raise ValueError(f"row {row[0]} of metrics: the step or epoch is not a number from 0 to 2^53")
    for row in connection.execute("SELECT seq FROM metrics WHERE trial_id NOT IN (SELECT trial_id FROM trials) LIMIT 1"):
        raise ValueError(f"row {row[0]} of metrics: there is no such trial")


def check_record(record: Mapping[str, Any], needed: Collection[str]) -> None:
    """Raise ValueError if an entry of the run's record has the wrong type, or if one of the entries `needed` is missing.

    `sweep.name` is the entry `name` inside `sweep`.
    """
    for name in dict.fromkeys([*_RECORD, *needed]):
        found: Any = record
        for key in name.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found is None and name in needed:
            raise ValueError(f"the run's record has no {name}")
        if found is not None and not isinstance(found, _RECORD.get(name, object)):
            raise ValueError(f"in the run's record, {name} is a {type(found).__name__}")


def without_wrong_types(metadata: Mapping[str, Any], types: Mapping[str, Any] = _METADATA) -> dict[str, Any]:
    """A trial's metadata without entries of the wrong type: a task may give an entry that ddl reads another meaning."""
    kept: dict[str, Any] = {}
    for key, value in metadata.items():
        kind = types.get(key, object)
        if isinstance(kind, dict):
            if isinstance(value, dict):
                kept[key] = without_wrong_types(value, kind)
        elif value is None or (isinstance(value, kind) and (kind is not int or (not isinstance(value, bool) and abs(value) < 2**63))):
            kept[key] = value
    return kept


def decode(text: str, what: str) -> Any:
    """The value of a JSON text in the ledger. Raises ValueError, which names `what` the text is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # or JSON that is nested too deeply
        raise ValueError(f"{what} is not JSON: {str(error)[:100]}") from error
