"""Checksums of the ledger's rows: SQLite notices a damaged page, but not a number with a flipped bit."""

import sqlite3
import zlib

TABLES = ("run", "trials", "metrics", "events")


def keep_checksums(connection: sqlite3.Connection) -> None:
    """Let a connection to a ledger, or to one in the making, write the checksum of each row that it inserts or updates.

    By temporary triggers, which the file does not contain, so that no statement of a writer can forget it.
    """
    _add_function(connection)
    for table in TABLES:
        update = f"UPDATE {table} SET checksum = row_checksum({_content(connection, table)}) WHERE rowid = new.rowid;"
        for event in ("INSERT", "UPDATE"):
            connection.execute(f"CREATE TEMP TRIGGER {table}_{event.lower()} AFTER {event} ON main.{table} BEGIN {update} END")


def check_checksums(connection: sqlite3.Connection) -> None:
    """Raise ValueError for a row whose content is not what was written."""
    _add_function(connection)
    for table in TABLES:
        query = f"SELECT rowid FROM {table} WHERE checksum <> row_checksum({_content(connection, table)}) LIMIT 1"
        for (row,) in connection.execute(query):
            raise ValueError(f"row {row} of {table} is damaged: it does not have its checksum")


def _add_function(connection: sqlite3.Connection) -> None:
    connection.create_function("row_checksum", -1, _row_checksum, deterministic=True)


def _row_checksum(*values: str | float | None) -> int:
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))


def _content(connection: sqlite3.Connection, table: str) -> str:
    """The names of a table's other columns, for SQL."""
    return ", ".join(name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})") if name != "checksum")
