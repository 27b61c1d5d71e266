"""Runs kept at a URL (`s3://bucket/runs`, `file:///mnt/runs`, whatever fsspec knows), beside the local folders they are made in.

Below the URL stands what stands below `runs/`: `<sweep>/<date-time>/` with the ledger, results and report, and
`trials/<trial id>/checkpoints/`. Everything is written locally first and copied in the background, so a store that is slow or
away slows nobody; what it lacks in the end is named. Credentials come from the environment, never from the URL.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ddl import checkpoints
from ddl.data import store
from ddl.progress import State

PUSH_EVERY_S = 30.0
"""Between copies of a run's ledger and report."""

LEASE_S = 4 * PUSH_EVERY_S
"""A driver that has not renewed its lease for so long is taken to be gone. Two machines' clocks have to agree better than this."""

SETTLE_S = 1.0
"""Between writing a lease and believing it: of two that start at once, the later writer has it."""

FINAL_S = 60.0
"""How long a trial or a run that has ended waits for its last copy."""

LEDGER, LEASE = "ledger.sqlite", "lease.json"
FILES = ("state.safetensors", "manifest.json")
_WHOLE = re.compile(r"checkpoints/(step-\d+)/manifest\.json")
RESULTS = ("results.csv", "results.parquet", "report.html", "launch.log")
SHOWN = ("figures", "samples")
"""Of a trial: what reports show of it."""


class Unreachable(Exception):
    """The store did not do what it was asked for; the message is its client's."""


def is_url(text: str) -> bool:
    return "://" in text


def problem(url: str) -> str:
    """What is wrong with a URL as a place for runs, and how to mend it; empty where nothing is. Asks nobody."""
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment or "::" in url:
        return f"{shown}: a URL of a store holds no user, password or options. Give credentials by the environment, as AWS_ACCESS_KEY_ID."
    try:
        _filesystem(url)
    except (ImportError, ValueError) as error:
        return f"{shown}: no store that can be used ({str(error).rstrip('.')})."
    return ""


def folder(url: str) -> Path:
    """The local folder in which the runs kept at `url` are made."""
    return store.folder("runs") / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:12]


def local_run(url: str) -> Path:
    """The local folder of the one run at `url`."""
    base, sweep, stamp = url.rstrip("/").rsplit("/", 2)
    return folder(base) / sweep / stamp


@dataclass(frozen=True)
class Place:
    """A folder at a URL. Its methods raise Unreachable, and give or take paths relative to it."""

    url: str

    def put(self, source: Path, name: str) -> None:
        """Copy a file there, whole or not at all."""
        with self._asked() as (filesystem, root):
            target = f"{root}/{name}"
            if isinstance(filesystem, LocalFileSystem):
                filesystem.makedirs(os.path.dirname(target), exist_ok=True)
                filesystem.put_file(str(source), f"{target}.part")
                os.replace(f"{target}.part", target)
            else:
                filesystem.put_file(str(source), target)

    def get(self, name: str, target: Path) -> None:
        with self._asked() as (filesystem, root):
            filesystem.get_file(f"{root}/{name}", str(target))

    def read(self, name: str) -> bytes | None:
        """A small file's content, None where there is none."""
        with self._asked() as (filesystem, root):
            try:
                return bytes(filesystem.cat_file(f"{root}/{name}"))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        with tempfile.NamedTemporaryFile() as draft:
            draft.write(content)
            draft.flush()
            self.put(Path(draft.name), name)

    def names(self) -> list[str]:
        """Every file below it."""
        with self._asked() as (filesystem, root):
            try:
                found = filesystem.find(root)
            except FileNotFoundError:
                return []
            return [name.removeprefix(root).lstrip("/") for name in found]

    def remove(self, name: str) -> None:
        """A file or a folder, where there is one."""
        with self._asked() as (filesystem, root), contextlib.suppress(FileNotFoundError):
            filesystem.rm(f"{root}/{name}", recursive=True)

    @contextlib.contextmanager
    def _asked(self) -> Iterator[tuple[Any, str]]:
        try:
            yield _filesystem(self.url)
        except Exception as error:
            # Each store's client has errors of its own, and there is nothing a store could do that should end a trial.
            raise Unreachable(f"{self.url}: {type(error).__name__}: {error}") from error


def _filesystem(url: str) -> tuple[Any, str]:
    options: dict[str, Any] = {"use_listings_cache": False}
    if url.startswith(("s3://", "s3a://")):
        options["config_kwargs"] = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2}}
    filesystem, root = fsspec.core.url_to_fs(url, **options)
    return filesystem, root.rstrip("/")


class TrialStore:
    """A trial's checkpoints: in its folder, and at a URL where there is one.

    A context manager. A thread of its own copies while the trial trains; `behind` says what the URL lacks, and why.
    """

    def __init__(self, local: Path, identity: str, url: str):
        """`local` and `url` are the trial's own folders; `identity` is its id. An empty URL: there is none."""
        self._local, self._identity = local, identity
        self._place = Place(url) if url else None
        self._wanted, self._ended = threading.Event(), threading.Event()
        self._copied, self._error = "", ""
        self._thread = threading.Thread(target=self._follow, name="storage", daemon=True)

    def newest(self) -> tuple[int, State] | None:
        """The newest good checkpoint of both (`checkpoints.newest`); the local one where the store is away."""
        here = self._local / "checkpoints"
        best = checkpoints.newest(here, self._identity)
        try:
            for name in self._there():
                step = int(name.removeprefix("step-"))
                if best is not None and step <= best[0]:
                    break
                self._pull(name)
                found = checkpoints.newest(here, self._identity)
                if found is not None and found[0] == step:
                    self._copied = name
                    return found
        except Unreachable as error:
            self._say(str(error))
        return best

    def store(self, step: int, state: State) -> None:
        """`checkpoints.store`; the copy follows in the background, of the newest alone where it cannot keep up."""
        checkpoints.store(self._local / "checkpoints", self._identity, step, state)
        self._wanted.set()

    def finish(self) -> None:
        """Copy what is left, for at most `FINAL_S`."""
        if self._place is None:
            return
        self._ended.set()
        self._wanted.set()
        self._thread.join(FINAL_S)
        if self._thread.is_alive():
            self._error = self._error or f"not copied within {FINAL_S:g} s"

    @property
    def behind(self) -> str:
        """Empty where nothing is lacking."""
        return f"only in {socket.gethostname()}:{self._local} ({self._error})" if self._error else ""

    def __enter__(self) -> Self:
        if self._place is not None:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._wanted.set()

    def _follow(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            last = self._ended.is_set()
            try:
                self._push(last)
                self._error = ""
            except Unreachable as error:
                self._say(str(error))
            if last:
                return

    def _there(self) -> list[str]:
        """The whole checkpoints at the URL, newest first."""
        files = self._place.names() if self._place is not None else []
        return sorted((match[1] for name in files if (match := _WHOLE.fullmatch(name))), reverse=True)

    def _push(self, last: bool) -> None:
        """Copy the newest local checkpoint, its manifest last: without one it is none. Then remove older ones."""
        assert self._place is not None
        name = max((path.name for path in (self._local / "checkpoints").glob("step-?????????")), default="")
        source, target = self._local / "checkpoints" / name, f"checkpoints/{name}"
        if name and name != self._copied:
            self._place.remove(f"{target}/manifest.json")  # of another attempt at the same step
            try:
                for file in FILES:
                    self._place.put(source / file, f"{target}/{file}")
            except Unreachable:
                if source.exists():
                    raise
                return  # it was overtaken meanwhile, and the next look takes the newest
            self._copied = name
            whole = self._there()[: checkpoints.KEEP]
            for old in {file.split("/")[1] for file in self._place.names() if file.startswith("checkpoints/")}.difference(whole):
                self._place.remove(f"checkpoints/{old}")
        for kind in SHOWN if last else ():
            for path in sorted((self._local / kind).glob("*")):
                self._place.put(path, f"{kind}/{path.name}")

    def _pull(self, name: str) -> None:
        assert self._place is not None
        draft = self._local / "checkpoints" / f"{name}.partial"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for file in FILES:
            self._place.get(f"checkpoints/{name}/{file}", draft / file)
        os.rename(draft, draft.with_suffix(""))

    def _say(self, error: str) -> None:
        self._error = error
        print(f"storage: {error}. Training goes on.", flush=True)


class RunStore:
    """A run's folder, `local` and at `url`, of which one driver at a time is the owner.

    A context manager for a run that was claimed: it copies ledger, results and report every `PUSH_EVERY_S` and at the end, and
    releases the run. A run of several sweeps has a folder a sweep, each with a ledger of its own. Ownership is a
    file with a name and a time in it, and no more than that: a driver that was cut off from the store for longer than
    `LEASE_S` may find that another has taken the run over; it then copies nothing any more and says so in `behind`.
    """

    def __init__(self, local: Path, url: str):
        self._local, self._place = local, Place(url.rstrip("/"))
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

        Raises ValueError where no run is there. The run has to be claimed before.
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
            raise ValueError(f"{error}. The run cannot be resumed from there now.") from error

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
