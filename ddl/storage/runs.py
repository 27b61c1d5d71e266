"""A run's ledger and report, here and at a URL, and who may write them."""

import contextlib
import json
import os
import socket
import sqlite3
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Self

from ddl.storage.remote_folder import RemoteFolder, Unreachable
from ddl.storage.trials import SHOWN

PUSH_EVERY_S = 30.0
"""Between copies of a run's ledger and report."""

LEASE_S = 4 * PUSH_EVERY_S
"""A driver that has not renewed its lease for so long is taken to be gone. Two machines' clocks have to agree better than this."""

SETTLE_S = 1.0
"""Between writing a lease and believing it: of two that start at once, the later writer has it."""

FINAL_S = 60.0
"""How long a run that has ended waits for its last copy."""

LEDGER, LEASE = "ledger.sqlite", "lease.json"
RESULTS = ("results.csv", "results.parquet", "report.html", "launch.log")


class RunStore:
    """A run's folder, `local` and at `url`, of which one driver at a time is the owner.

    A context manager for a run that was claimed: it copies ledger, results and report every `PUSH_EVERY_S` and at the end, and
    releases the run. A run of several sweeps has a folder a sweep, each with a ledger of its own. Ownership is a
    file with a name and a time in it, and no more than that: a driver that was cut off from the store for longer than
    `LEASE_S` may find that another has taken the run over; it then copies nothing any more and says so in `behind`.
    """

    def __init__(self, local: Path, url: str):
        self._local, self._place = local, RemoteFolder(url.rstrip("/"))
        self._owner = uuid.uuid4().hex
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="storage", daemon=True)
        self._sent: dict[str, tuple[int, int]] = {}
        self.behind = ""

    @property
    def url(self) -> str:
        return self._place.url

    def claim(self) -> None:
        """Take the run. Raises ValueError where another driver has it, or the store cannot be used."""
        try:
            self._claim()
            time.sleep(SETTLE_S)
            self._claim()
        except Unreachable as error:
            raise ValueError(f"{error}. Nothing can be kept there: check the URL, and the credentials in the environment.") from error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join(FINAL_S)
        if self._thread.is_alive():
            self.behind = f"{self._place.url}: not copied within {FINAL_S:g} s"

    def pull(self) -> None:
        """Bring each ledger here, where that at the URL is further than a local one, which is then set aside.

        Raises ValueError where no run is there. Who goes on with the run has to claim it before.
        """
        try:
            names = [name for name in self._place.names() if Path(name).name == LEDGER and name.count("/") <= 1]
            if not names and not self._ledgers():
                raise ValueError(f"{self.url}: no {LEDGER} in it, so it is no run. Name one below the URL given to --out.")
            for name in names:
                mine, draft = self._local / name, self._local / f"{name}.pulled"
                mine.parent.mkdir(parents=True, exist_ok=True)
                self._place.get(name, draft)
                if _events(mine) >= _events(draft):
                    draft.unlink()
                    continue
                if mine.exists():
                    os.replace(mine, f"{mine}.aside")
                os.replace(draft, mine)
        except Unreachable as error:
            raise ValueError(f"{error}. The run cannot be had from there now.") from error

    def collect(self) -> None:
        """Bring what the trials show (figures, samples) here, for the report."""
        try:
            for name in self._place.names():
                part = Path(name).parts
                if part[-4:-3] == ("trials",) and part[-2] in SHOWN and not (self._local / name).exists():
                    (self._local / name).parent.mkdir(parents=True, exist_ok=True)
                    self._place.get(name, self._local / name)
        except Unreachable as error:
            self.behind = str(error)

    def _follow(self) -> None:
        while True:
            last = self._ended.wait(PUSH_EVERY_S)
            try:
                self._claim()
                self._push()
                if last:
                    self._place.remove(LEASE)
                self.behind = ""
            except (Unreachable, ValueError) as error:
                self.behind = str(error)
            if last:
                return

    def _claim(self) -> None:
        """Take or renew the lease. Raises ValueError where another has it."""
        found = self._place.read(LEASE)
        if found is not None:
            try:
                lease = json.loads(found)
                owner, host, age = lease["owner"], lease["host"], time.time() - float(lease["at"])
            except (ValueError, KeyError, TypeError):  # half a file of a driver that was killed
                owner, host, age = "", "", LEASE_S
            if owner != self._owner and age < LEASE_S:
                raise ValueError(
                    f"{self._place.url}: another driver, on {host}, has this run ({max(age, 0):.0f} s ago). Wait for it, or stop it first."
                )
        lease = {"owner": self._owner, "host": socket.gethostname(), "at": time.time()}
        self._place.write(LEASE, json.dumps(lease).encode())

    def _push(self) -> None:
        """Copy what has changed."""
        results = [path for name in RESULTS for path in (self._local / name, *self._local.glob(f"*/{name}")) if path.is_file()]
        with tempfile.TemporaryDirectory() as scratch:
            for path in [*self._ledgers(), *results]:
                name, looked = path.relative_to(self._local).as_posix(), path.stat()
                now = (looked.st_mtime_ns, looked.st_size)
                if self._sent.get(name) == now:
                    continue
                if path.name == LEDGER:
                    copy = Path(scratch) / LEDGER
                    # The file itself may be half a transaction.
                    with contextlib.closing(_opened(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
                        source.backup(target)
                    path = copy
                self._place.put(path, name)
                self._sent[name] = now

    def _ledgers(self) -> list[Path]:
        """The run's, or one a sweep."""
        return [path for path in (self._local / LEDGER, *self._local.glob(f"*/{LEDGER}")) if path.is_file()]


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=30)


def _events(path: Path) -> int:
    """How far a ledger is; -1 for one that is not there or cannot be read."""
    if not path.is_file():
        return -1
    try:
        with contextlib.closing(_opened(path)) as ledger:
            return int(ledger.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
    except sqlite3.DatabaseError:
        return -1
