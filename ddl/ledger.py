"""The ledger: the SQLite file of a run, with its trials, their measurements and their ends.

It is the single source of truth about a run. The driver is its only writer, under a lock that ends with its process; the
terminal, the report and W&B are made from it. Rows are ordered by sequence number, never by a clock, and each has a checksum.

It uses a rollback journal rather than a write-ahead log, which needs shared memory that network file systems do not have.
"""

import errno
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from ddl.durable import CannotWrite, replace_file, sync
from ddl.ledger_checksums import keep_checksums
from ddl.ledger_reader import READ_S, LedgerReader
from ddl.ledger_tables import ENDED, SCHEMA, SCHEMA_VERSION, TrialRow
from ddl.run_folder import LEDGER
from ddl.trial_report import TrialReport

LOCKED_S = READ_S + 30.0
"""Seconds that a transaction waits for other programs that hold the file locked: longer than any of our readers."""

_ERRORS = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_BUSY: errno.EBUSY, sqlite3.SQLITE_READONLY: errno.EROFS}
"""The system's number for an error of SQLite. Any other one is an I/O error."""


class Ledger(LedgerReader):
    """The writer of a run's ledger. A context manager, which holds the lock and the connection.

    Its methods raise CannotWrite if the disk is full or fails, or if another program holds the file locked for `LOCKED_S`. The ledger is then
    as before the call.
    """

    def __init__(self, folder: Path):
        """Open the existing run in `folder` for writing. Raises ValueError if another process has it open, and PermissionError."""
        super().__init__(folder)
        for path in (self.folder, self.path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        self._lock = _lock(self.folder)
        with ExitStack() as opened:
            opened.callback(self._lock.release)
            self._db = opened.enter_context(closing(_connect(self.path)))
            (result,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()  # with the index, which readers do not use
            if result != "ok":
                raise ValueError(f"{self.path}: damaged ({' '.join(result.split())}). Restore it from a copy.")
            self._opened = opened.pop_all()

    @classmethod
    def create(cls, folder: Path, run: Mapping[str, Any], trials: Iterable[TrialRow]) -> Self:
        """Create the ledger of a run in the existing `folder`. `run` maps names to JSON-serialisable values."""
        path = Path(folder) / LEDGER
        assert not path.exists(), f"{path} exists"
        db = sqlite3.connect(":memory:")
        with db:
            db.executescript(SCHEMA)
            keep_checksums(db)
            db.executemany("INSERT INTO run (key, value) VALUES (?, ?)", [(key, json.dumps(value)) for key, value in run.items()])
            _insert(db, trials)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        replace_file(path, db.serialize())  # in one step: whoever watches the folder sees a complete ledger or none
        sync(path.parent)
        db.close()
        return cls(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._when_unlocked("BEGIN IMMEDIATE")
            yield
            self._when_unlocked("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # SQLite has ended it itself after some errors
                self._db.rollback()
            if isinstance(error, sqlite3.OperationalError):
                number = _ERRORS.get(error.sqlite_errorcode & 0xFF, errno.EIO)
                raise CannotWrite(number, str(error), str(self.path)) from error
            raise

    def _when_unlocked(self, statement: str) -> None:
        """Execute a statement as soon as no other program holds the file locked. Between the attempts, signals are handled."""
        end = time.monotonic() + LOCKED_S
        while True:
            try:
                self._db.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise

    def add(self, trial: TrialRow) -> None:
        """Add a trial that was not planned from the start."""
        with self._transaction():
            _insert(self._db, [trial])

    def best_value(self, trial_id: str, metric: str, mode: str) -> float | None:
        """The best finite measurement of a metric in a trial, the largest if `mode` is "max"; None if there is none."""
        best = "max" if mode == "max" else "min"
        query = f"SELECT {best}(value) FROM metrics WHERE trial_id = ? AND name = ? AND abs(value) < 9e999"  # 9e999 is SQLite's infinity
        with self._transaction():
            (value,) = self._db.execute(query, (trial_id, metric)).fetchone()
        return value

    def note(self, **values: Any) -> None:
        """Add or replace values of `run()`."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO run (key, value) VALUES (?, ?)", [(key, json.dumps(value)) for key, value in values.items()]
            )

    def event(self, kind: str, detail: str, trial_id: str | None = None) -> None:
        """Record that something happened to the run, or to a trial."""
        with self._transaction():
            self._event(kind, detail, trial_id)

    def record(self, reports: Sequence[TrialReport]) -> None:
        """Write trials' reports in one transaction, durable when this returns. Reports of other kinds leave no row.

        A trial that starts again from a checkpoint measures everything after `report.step` again, so those measurements are
        removed first; from step 0 on, all of them.
        """
        with self._transaction():
            for report in reports:
                match report.kind:
                    case "started":
                        self._start(report)
                    case "measured":
                        self._measure(report)
                        self._add_metadata(report)
                    case "out_of_memory":
                        self._event("out_of_memory", report.reason, report.trial_id)
                    case "ended":
                        self._measure(report)
                        self._end(report)

    def _start(self, report: TrialReport) -> None:
        trial_id, step = report.trial_id, report.step
        self._db.execute("DELETE FROM metrics WHERE trial_id = ? AND (step > ? OR ? = 0)", (trial_id, step, step))
        self._db.execute(
            "UPDATE trials SET status = 'running', reason = '', place = ?, attempts = attempts + 1,"
            " started_at = coalesce(started_at, ?), ended_at = NULL WHERE trial_id = ?",
            (report.place, time.time(), trial_id),
        )
        changed = f", changed {json.dumps(report.metadata['changed'])}" if "changed" in report.metadata else ""
        self._event("started", f"from step {step} at {report.place}{changed}", trial_id)
        self._add_metadata(report)

    def _end(self, report: TrialReport) -> None:
        assert report.status in ENDED, report.status
        self._db.execute(
            "UPDATE trials SET status = ?, reason = ?, ended_at = ? WHERE trial_id = ?",
            (report.status, report.reason, time.time(), report.trial_id),
        )
        self._event(report.status, report.reason, report.trial_id)

    def _add_metadata(self, report: TrialReport) -> None:
        if report.metadata:
            patch = json.dumps(dict(report.metadata))
            self._db.execute("UPDATE trials SET metadata = json_patch(metadata, ?) WHERE trial_id = ?", (patch, report.trial_id))

    def _measure(self, report: TrialReport) -> None:
        # A trial that cannot know whether a measurement was recorded reports it again; it is recorded once.
        self._db.executemany(
            "INSERT INTO metrics (trial_id, step, epoch, elapsed_s, name, value) SELECT ?1, ?2, ?3, ?4, ?5, ?6"
            " WHERE NOT EXISTS (SELECT 1 FROM metrics WHERE trial_id = ?1 AND name = ?5 AND step = ?2)",
            [(report.trial_id, report.step, report.epoch, report.elapsed_s, *item) for item in report.metrics.items()],
        )

    def forget(self, trial_ids: Iterable[str]) -> None:
        """Make trials planned again, as if they had never been trained. Others than those of the run are ignored."""
        planned = "status = 'planned', reason = '', place = '', metadata = '{}', started_at = NULL, ended_at = NULL"
        with self._transaction():
            for trial_id in trial_ids:
                if self._db.execute(f"UPDATE trials SET {planned} WHERE trial_id = ?", (trial_id,)).rowcount:
                    self._db.execute("DELETE FROM metrics WHERE trial_id = ?", (trial_id,))
                    self._event("forgotten", "to be trained again", trial_id)

    def interrupted(self) -> None:
        """Mark running trials as planned again, so that a resume continues them. The event is recorded once for each interruption."""
        with self._transaction():
            self._db.execute("UPDATE trials SET status = 'planned' WHERE status = 'running'")
            last = self._db.execute("SELECT kind FROM events ORDER BY seq DESC LIMIT 1").fetchone()
            if last != ("interrupted",):
                self._event("interrupted", "", None)

    def _event(self, kind: str, detail: str, trial_id: str | None) -> None:
        self._db.execute("INSERT INTO events (at, trial_id, kind, detail) VALUES (?, ?, ?, ?)", (time.time(), trial_id, kind, detail))


def _insert(db: sqlite3.Connection, trials: Iterable[TrialRow]) -> None:
    db.executemany(
        "INSERT INTO trials (trial_id, position, configuration, swept, task, seed, status) VALUES (?, ?, ?, ?, ?, ?, 'planned')",
        [(t.trial_id, t.position, t.configuration, json.dumps(dict(t.swept)), json.dumps(dict(t.task)), t.seed) for t in trials],
    )


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=1)  # `Ledger._when_unlocked` tries again
    db.execute("PRAGMA journal_mode = TRUNCATE")
    db.execute("PRAGMA synchronous = FULL")
    keep_checksums(db)
    return db


def _lock(folder: Path) -> FileLock:
    """Acquire the run's lock. The kernel releases it when its process ends, however it ends, so it cannot become stale."""
    lock = FileLock(folder / "ledger.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder}: another process is running this sweep. Wait for it, or stop it first.") from None
    return lock
