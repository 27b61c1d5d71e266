"""A run's ledger and report, in its local folder and at a URL, and the lease that allows one driver to write them."""

import contextlib
import itertools
import json
import os
import socket
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from ddl.ledger_checks import open_read_only
from ddl.ledger_reader import LedgerReader
from ddl.run_folder import LEDGER, TRIALS, is_inside
from ddl.storage.remote_folder import RemoteFolder, Unreachable
from ddl.storage.trials import REPORT_FOLDERS

UPLOAD_EVERY_S = 30.0  # seconds between uploads of a run's ledger and report
LEASE_S = 4 * UPLOAD_EVERY_S
"""Seconds after which a lease that was not renewed expires. The clocks of two machines must agree better than this."""

SETTLE_S = 1.0  # pause between writing a lease and checking it: if two drivers start at once, the later writer owns the run
FINAL_UPLOAD_S = 60.0  # seconds that an ended run waits for its last upload
LEASE = "lease.json"
RESULTS = ("results.csv", "results.parquet", "report.html", "launch.log")


class RunStore:
    """Uploads a run's folder `local` to `url`. One driver at a time owns the run.

    A context manager for a claimed run: it uploads ledger, results and report every UPLOAD_EVERY_S and at the end, and then
    releases the run. A run of several sweeps has one folder per sweep, each with a ledger. `not_uploaded` is the last error,
    or "" if everything was uploaded.

    Ownership is a lease: a file with an owner and a time. It is not a lock: a driver that loses the store for longer than
    LEASE_S may find that another driver owns the run; it then stops uploading and reports that in `not_uploaded`.
    """

    def __init__(self, local: Path, url: str, resumed: bool = False):
        """`resumed`: upload nothing before `download_ledgers` has returned, since the ledgers at the URL may be newer."""
        self._local, self._remote = local, RemoteFolder(url.rstrip("/"))
        self._owner = uuid.uuid4().hex
        self._ended, self._abandoned = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._upload_until_end, name="storage", daemon=True)
        self._uploaded: dict[str, tuple[int, int]] = {}
        self._local_is_newest = not resumed
        self.not_uploaded = ""

    @property
    def url(self) -> str:
        """URL of the run's folder."""
        return self._remote.url

    def claim(self) -> None:
        """Become the run's owner. Raises ValueError if another driver owns it, or if the store is unreachable."""
        try:
            self._claim()
            try:
                time.sleep(SETTLE_S)
            except KeyboardInterrupt:
                self._remote.remove(LEASE)
                raise
            self._claim()
        except Unreachable as error:
            raise ValueError(f"{error}. The run cannot be uploaded there: check the URL and the credentials in the environment.") from error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        try:
            self._thread.join(FINAL_UPLOAD_S)
        except KeyboardInterrupt:  # the run may be resumed at once, so nobody may own it
            self.not_uploaded = f"{self._remote.url}: interrupted during the last upload"
            self._abandoned.set()
            with contextlib.suppress(Unreachable):
                self._remote.remove(LEASE)
            return
        if self._thread.is_alive():
            self.not_uploaded = f"{self._remote.url}: not uploaded within {FINAL_UPLOAD_S:g} s"

    def download_ledgers(self) -> None:
        """Download each ledger that is newer than the local one, which is renamed to `.aside`.

        Claim the run before resuming it. Raises ValueError if the URL has no run, if its ledger cannot be read (`LedgerReader`), or if
        the store is unreachable.
        """
        try:
            names = [name for name in self._remote.names() if Path(name).name == LEDGER and name.count("/") <= 1 and is_inside(name)]
            if not names and not self._files(LEDGER):
                raise ValueError(f"{self.url}: no {LEDGER} in it, so it is not a run. Name a folder below the URL given to --out.")
            for name in names:
                local = self._local / name
                local.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=local.parent, prefix=".download-") as scratch:
                    draft = Path(scratch) / LEDGER
                    self._remote.download(name, draft)
                    if LedgerReader(draft.parent).newest_rows() <= _newest_local_rows(local):
                        continue
                    for ending in ("", "-journal"):  # the journal of a killed driver must not be applied to another ledger
                        if (file := Path(f"{local}{ending}")).exists():
                            os.replace(file, f"{local}.aside{ending}")
                    os.replace(draft, local)
        except Unreachable as error:
            raise ValueError(f"{error}. The run cannot be downloaded now.") from error
        self._local_is_newest = True

    def remove_trials(self, trial_ids: Iterable[str]) -> None:
        """Remove the files of trials from the object store. Raises ValueError if it is unreachable."""
        folders = [(TRIALS, trial_id) for trial_id in trial_ids]
        try:
            for name in self._remote.names() if folders else ():
                parts = Path(name).parts
                if not set(folders).isdisjoint(itertools.pairwise(parts)):
                    self._remote.remove(name)
        except Unreachable as error:
            raise ValueError(f"{error}. The trials' files there cannot be removed now.") from error

    def remove_run(self) -> None:
        """Remove the run from the object store, unless that is unreachable."""
        with contextlib.suppress(Unreachable):
            self._remote.remove("")

    def download_figures(self) -> None:
        """Download the trials' figures and samples that are not local yet, for the report. An error sets `not_uploaded`."""
        try:
            for name in self._remote.names():
                part = Path(name).parts
                if part[-4:-3] != (TRIALS,) or part[-2] not in REPORT_FOLDERS or not is_inside(name):
                    continue
                if not (self._local / name).exists():
                    (self._local / name).parent.mkdir(parents=True, exist_ok=True)
                    self._remote.download(name, self._local / name)
        except Unreachable as error:
            self.not_uploaded = str(error)

    def _upload_until_end(self) -> None:
        while True:
            last = self._ended.wait(UPLOAD_EVERY_S)
            try:
                self._claim()
                if self._local_is_newest:
                    self._upload()
                if last:
                    self._remote.remove(LEASE)
                self.not_uploaded = ""
            except (Unreachable, ValueError, OSError, sqlite3.Error) as error:  # the latter two for a copy in a full temporary folder
                self.not_uploaded = str(error)
            if last:
                return

    def _claim(self) -> None:
        """Take or renew the lease, unless the last upload was abandoned. Raises ValueError if another driver has it."""
        if self._abandoned.is_set():
            return
        content = self._remote.read(LEASE)
        if content is not None:
            try:
                lease = json.loads(content)
                owner, host, age = lease["owner"], lease["host"], time.time() - float(lease["at"])
            except (ValueError, KeyError, TypeError):  # partial file of a driver that was killed
                owner, host, age = "", "", LEASE_S
            if owner != self._owner and age < LEASE_S:
                raise ValueError(
                    f"{self._remote.url}: another driver, on {host}, owns this run (lease renewed {max(age, 0):.0f} s ago). Wait for it, or stop it first."
                )
        lease = {"owner": self._owner, "host": socket.gethostname(), "at": time.time()}
        self._remote.write(LEASE, json.dumps(lease).encode())

    def _upload(self) -> None:
        """Upload the ledgers and results that have changed."""
        results = [path for name in RESULTS for path in self._files(name)]
        with tempfile.TemporaryDirectory() as scratch:
            for path in [*self._files(LEDGER), *results]:
                name, status = path.relative_to(self._local).as_posix(), path.stat()
                version = (status.st_mtime_ns, status.st_size)
                if self._uploaded.get(name) == version:
                    continue
                if path.name == LEDGER:
                    copy = Path(scratch) / LEDGER
                    # A plain copy of the file could contain half a transaction.
                    with open_read_only(path) as source, contextlib.closing(sqlite3.connect(copy)) as target:
                        source.backup(target)
                    path = copy
                self._remote.upload(path, name)
                self._uploaded[name] = version

    def _files(self, name: str) -> list[Path]:
        """The files of this name: the run's, or one per sweep. Folders of downloads under way have names that begin with a dot."""
        return [path for path in (self._local / name, *self._local.glob(f"[!.]*/{name}")) if path.is_file()]


def _newest_local_rows(ledger: Path) -> tuple[int, int]:
    """`LedgerReader.newest_rows`, less than any for a missing or unreadable ledger, which a download replaces."""
    try:
        return LedgerReader(ledger.parent).newest_rows()
    except ValueError:
        return -1, -1
