"""Reads the ledger of a run, also while it is written.

A ledger may come from someone else, so nothing in it is taken on trust (`ledger_checks.py`).
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddl.hints import suggest_name
from ddl.ledger_checks import check_content, check_record, check_schema, decode, open_read_only, without_wrong_types
from ddl.ledger_checksums import check_checksums
from ddl.ledger_tables import SCHEMA, SCHEMA_VERSION, TrialRow
from ddl.redaction import Redactor, printable
from ddl.run_folder import LEDGER, check_trial_id

if TYPE_CHECKING:
    import pandas as pd  # takes a third of a second, which a mistyped option should not cost

READ_S = 120.0
"""Seconds after which a read is ended. A ledger of any real size is read in a fraction of it."""


ROWS_AT_ONCE = 100_000
"""Measurements that are read at once: as Python objects, each takes ten times the memory that it takes in a table."""


def ledger_path(folder: Path) -> Path:
    """The ledger in a run's folder. Raises ValueError if there is none."""
    path = folder / LEDGER
    if not path.is_file():
        raise ValueError(f"{folder}: not a run folder, it has no {LEDGER}. Name a folder below runs/.")
    return path


class LedgerReader:
    """Reads a run's ledger, also while it is written. Each call opens the file, so it never blocks the writer for long."""

    def __init__(self, folder: Path):
        """Open the ledger in a run's `folder` and check it. Raises ValueError if there is none that this version can read.

        The check reads the whole file, so keep the reader.
        """
        self.folder = Path(folder)
        self.path = ledger_path(self.folder)
        with self._connection() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == SCHEMA_VERSION:
                check_schema(connection, SCHEMA)
                check_content(connection)
                check_checksums(connection)
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{self.path}: ledger schema {version}, this version of ddl reads {SCHEMA_VERSION}. Use the version that wrote it."
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        end = time.monotonic() + READ_S
        try:
            self.path.open("rb").close()  # SQLite does not say why it cannot open a file
            with open_read_only(self.path) as connection:
                connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
                yield connection
        except PermissionError:
            raise
        except (sqlite3.DatabaseError, OSError, ValueError) as error:  # pandas raises OSError
            interrupted = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
            reason = f"it took longer than {READ_S:g} s" if interrupted else " ".join(str(error).split())
            raise ValueError(f"{self.path}: cannot be read as a ledger ({reason}). Restore it from a copy.") from error

    def run(self, *needed: str) -> dict[str, Any]:
        """The run's own record: the values given to `Ledger.create` and added by `Ledger.note`. The texts of `sweep` can be shown.

        Raises ValueError if one of the entries `needed` is missing (`sweep.name`: inside `sweep`), or if one has the wrong type.
        """
        with self._connection() as connection:
            record = {key: decode(value, f"{key} of the run") for key, value in connection.execute("SELECT key, value FROM run")}
            check_record(record, needed)
            return record | ({"sweep": _shown(record["sweep"])} if "sweep" in record else {})

    def trials(self) -> list[TrialRow]:
        """All trials, in the order of the plan. Their texts can be shown: they have no secret, and nothing that a terminal obeys."""
        redactor = Redactor()
        columns = list(TrialRow.__dataclass_fields__)
        with self._connection() as connection:
            decoded = []
            # `+`: sorted without the index, which has no checksums.
            for row in connection.execute(f"SELECT {', '.join(columns)} FROM trials ORDER BY +position"):
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

    def trial(self, trial_id: str) -> TrialRow:
        """The trial with this id, as in `trials`. Raises ValueError if there is none."""
        trials = {trial.trial_id: trial for trial in self.trials()}
        if trial_id not in trials:
            raise ValueError(f"{self.path.parent}: has no trial {trial_id!r}.{suggest_name(trial_id, trials)}")
        return trials[trial_id]

    def metrics(self, after: int = 0) -> "pd.DataFrame":
        """Every measurement with a sequence number above `after`, in order.

        Columns: seq, trial_id, step, epoch, elapsed_s (seconds trained so far, over all attempts), name, value (NaN if it is not
        a number).
        """
        import pandas as pd

        with self._connection() as connection:
            parts = pd.read_sql_query(
                "SELECT seq, trial_id, step, epoch, elapsed_s, name, value FROM metrics WHERE seq > ? ORDER BY seq",
                connection,
                params=(after,),
                dtype={"epoch": "Int64", "value": "float64"},
                chunksize=ROWS_AT_ONCE,
            )
            return pd.concat(parts, ignore_index=True)

    def events(self) -> "pd.DataFrame":
        """All events, in order. Columns: seq, at (Unix time, for display only), trial_id, kind, detail."""
        import pandas as pd

        with self._connection() as connection:
            return pd.read_sql_query("SELECT seq, at, trial_id, kind, detail FROM events ORDER BY seq", connection)

    def newest_rows(self) -> tuple[int, int]:
        """Sequence numbers of the newest event and the newest measurement, 0 without one.

        Of two copies of a ledger, the newer has the larger pair.
        """
        with self._connection() as connection:
            event, measurement = connection.execute("SELECT (SELECT max(seq) FROM events), (SELECT max(seq) FROM metrics)").fetchone()
            return event or 0, measurement or 0


def _shown(value: Any) -> Any:
    """A value of JSON whose texts have nothing that a terminal obeys, but for line breaks."""
    if isinstance(value, str):
        return "\n".join(map(printable, value.split("\n")))
    if isinstance(value, dict):
        return {_shown(key): _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value
