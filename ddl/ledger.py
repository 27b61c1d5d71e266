"""The ledger: the SQLite file of a run, with its trials, their measurements and their ends.

It is the single source of truth about a run. The driver is its only writer, under a lock that ends with its process; the
terminal, the report and W&B are made from it. Rows are ordered by sequence number, never by a clock.

It uses a rollback journal rather than a write-ahead log, which needs shared memory that network file systems do not have.

A ledger may come from someone else, so a reader takes nothing in it on trust (`ledger_checks.py`).
"""

import errno
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from ddl.durable import CannotWrite, replace_file, sync
from ddl.ledger_checks import check_content, check_record, check_schema, decode, open_read_only, without_wrong_types
from ddl.redaction import Redactor, printable
from ddl.run_folder import LEDGER, check_trial_id
from ddl.trial_report import TrialReport

if TYPE_CHECKING:
    import pandas as pd  # takes a third of a second, which a mistyped option should not cost

SCHEMA_VERSION = 2
READ_S = 120.0
"""Seconds after which a read is ended. A ledger of any real size is read in a fraction of it."""

LOCKED_S = READ_S + 30.0
"""Seconds that a transaction waits for other programs that hold the file locked: longer than any of our readers."""

_ERRORS = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_BUSY: errno.EBUSY, sqlite3.SQLITE_READONLY: errno.EROFS}
"""The system's number for an error of SQLite. Any other one is an I/O error."""

STATUSES = ("planned", "running", "finished", "stopped", "diverged", "failed")
COUNTED = ("finished", "stopped")
"""Statuses of the trials whose values enter means. A trial stopped by a scheduler counts with the values it had reached; leaving it out
would favour its configuration."""
ENDED = (*COUNTED, "diverged", "failed")

_SCHEMA = f"""
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials (
    trial_id TEXT PRIMARY KEY,
    position INTEGER NOT NULL UNIQUE,
    configuration TEXT NOT NULL,
    swept TEXT NOT NULL,
    task TEXT NOT NULL,
    seed INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN {STATUSES}),
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    place TEXT NOT NULL DEFAULT '',
    metadata TEXT NOT NULL DEFAULT '{{}}',
    started_at REAL,
    ended_at REAL
);
CREATE TABLE metrics (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    trial_id TEXT NOT NULL REFERENCES trials,
    step INTEGER NOT NULL,
    epoch INTEGER,
    elapsed_s REAL NOT NULL,
    name TEXT NOT NULL,
    value REAL
);
CREATE INDEX metrics_of_a_trial ON metrics (trial_id, name, step);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    trial_id TEXT,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class TrialRow:
    """A trial in the ledger.

    position: its place in the plan, from 0.
    configuration: its name in tables, without the seed.
    swept: value of each swept key (`task.lr`). task: value of every hyperparameter.
    metadata: what the trial reported about itself (`Progress.metadata`).
    started_at, ended_at: Unix times in seconds, for display only.
    """

    trial_id: str
    position: int
    configuration: str
    swept: Mapping[str, Any]
    task: Mapping[str, Any]
    seed: int
    status: str = "planned"
    reason: str = ""
    attempts: int = 0
    place: str = ""
    metadata: Mapping[str, Any] | None = None
    started_at: float | None = None
    ended_at: float | None = None


class LedgerReader:
    """Reads a run's ledger, also while it is written. Each call opens the file, so it never blocks the writer for long."""

    def __init__(self, folder: Path):
        """Open the ledger in a run's `folder` and check it. Raises ValueError if there is none that this version can read.

        The check reads the whole file, so keep the reader.
        """
        self.folder = Path(folder)
        self.path = self.folder / LEDGER
        if not self.path.is_file():
            raise ValueError(f"{self.folder}: not a run folder, it has no {LEDGER}. Name a folder below runs/.")
        with self._connection() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == SCHEMA_VERSION:
                check_schema(connection, _SCHEMA)
                check_content(connection)
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{self.path}: ledger schema {version}, this version of ddl reads {SCHEMA_VERSION}. Use the version that wrote it."
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        end = time.monotonic() + READ_S
        try:
            with open_read_only(self.path) as connection:
                connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
                yield connection
        except (sqlite3.DatabaseError, OSError, ValueError) as error:  # pandas raises OSError
            interrupted = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
            reason = f"it took longer than {READ_S:g} s" if interrupted else " ".join(str(error).split())
            raise ValueError(f"{self.path}: cannot be read as a ledger ({reason}). Restore it from a copy.") from error

    def run(self, *needed: str) -> dict[str, Any]:
        """The run's own record: the values given to `Ledger.create` and added by `Ledger.note`.

        Raises ValueError if one of the entries `needed` is missing (`sweep.name`: inside `sweep`), or if one has the wrong type.
        """
        with self._connection() as connection:
            record = {key: decode(value, f"{key} of the run") for key, value in connection.execute("SELECT key, value FROM run")}
            check_record(record, needed)
            return record

    def trials(self) -> list[TrialRow]:
        """All trials, in the order of the plan. Their texts can be shown: they have no secret, and nothing that a terminal obeys."""
        redactor = Redactor()
        columns = list(TrialRow.__dataclass_fields__)
        with self._connection() as connection:
            decoded = []
            for row in connection.execute(f"SELECT {', '.join(columns)} FROM trials ORDER BY position"):
                values = dict(zip(columns, row, strict=True))
                check_trial_id(values["trial_id"])
                for key in ("swept", "task", "metadata"):
                    values[key] = decode(values[key], f"{key} of trial {values['trial_id']}")
                    if not isinstance(values[key], dict):
                        raise ValueError(f"{key} of trial {values['trial_id']} is not a mapping")
                values["metadata"] = without_wrong_types(values["metadata"])
                for key in ("configuration", "place"):
                    values[key] = printable(values[key])
                values["reason"] = printable(redactor.text(values["reason"]).replace("\n", " "))
                decoded.append(TrialRow(**values))
            return decoded

    def metrics(self, after: int = 0) -> "pd.DataFrame":
        """Every measurement with a sequence number above `after`, in order.

        Columns: seq, trial_id, step, epoch, elapsed_s (seconds trained so far, over all attempts), name, value (NaN if it is not
        a number).
        """
        import pandas as pd

        with self._connection() as connection:
            return pd.read_sql_query(
                "SELECT seq, trial_id, step, epoch, elapsed_s, name, value FROM metrics WHERE seq > ? ORDER BY seq",
                connection,
                params=(after,),
                dtype={"epoch": "Int64", "value": "float64"},
            )

    def events(self) -> "pd.DataFrame":
        """All events, in order. Columns: seq, at (Unix time, for display only), trial_id, kind, detail."""
        import pandas as pd

        with self._connection() as connection:
            return pd.read_sql_query("SELECT seq, at, trial_id, kind, detail FROM events ORDER BY seq", connection)


class Ledger(LedgerReader):
    """The writer of a run's ledger. A context manager, which holds the lock and the connection.

    Its methods raise CannotWrite if the disk is full or fails, or if another program holds the file locked for `LOCKED_S`. The ledger is then
    as before the call.
    """

    def __init__(self, folder: Path):
        """Open the existing run in `folder` for writing. Raises ValueError if another process has it open."""
        super().__init__(folder)
        self._lock = _lock(self.folder)
        self._db = _connect(self.path)
        (result,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()  # with the index, which readers do not use
        if result != "ok":
            self.__exit__()
            raise ValueError(f"{self.path}: damaged ({' '.join(result.split())}). Restore it from a copy.")

    @classmethod
    def create(cls, folder: Path, run: Mapping[str, Any], trials: Iterable[TrialRow]) -> Self:
        """Create the ledger of a run in the existing `folder`. `run` maps names to JSON-serialisable values."""
        path = Path(folder) / LEDGER
        assert not path.exists(), f"{path} exists"
        db = sqlite3.connect(":memory:")
        with db:
            db.executescript(_SCHEMA)
            db.executemany("INSERT INTO run VALUES (?, ?)", [(key, json.dumps(value)) for key, value in run.items()])
            _insert(db, trials)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        replace_file(path, db.serialize())  # in one step: whoever watches the folder sees a complete ledger or none
        sync(path.parent)
        db.close()
        return cls(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._db.close()
        self._lock.release()

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
            self._db.executemany("INSERT OR REPLACE INTO run VALUES (?, ?)", [(key, json.dumps(value)) for key, value in values.items()])

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
    return db


def _lock(folder: Path) -> FileLock:
    """Acquire the run's lock. The kernel releases it when its process ends, however it ends, so it cannot become stale."""
    lock = FileLock(folder / "ledger.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder}: another process is running this sweep. Wait for it, or stop it first.") from None
    return lock
