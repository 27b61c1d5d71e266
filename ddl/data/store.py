"""The cache of prepared data: each data set decoded once, one safetensors file that every process maps into its memory; and
items that stay files, a folder each.

A file, or such a folder, is whole or absent: it is written beside its place, synchronised and renamed.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ddl import durable
from ddl.data.integrity import Damaged, fingerprint_of_files
from ddl.data.splits import Origin, Split, fingerprint, from_tensors, to_tensors

FILE = "full-2.safetensors"
"""The number is the layout's: a version with another layout neither reads nor disturbs this one."""
FILES = {"full": "files-2", "sample": "sample-2"}
"""The folders of an item's files, by content."""
ORIGIN = "origin.json"
VERDICT = "unavailable.json"


def cache_folder(name: str) -> Path:
    """Where the data set `name` is cached: below DDL_CACHE, or ddl in XDG_CACHE_HOME, or ~/.cache/ddl."""
    if chosen := os.environ.get("DDL_CACHE"):
        return Path(chosen).expanduser().absolute() / name
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG rules: a relative path is to be ignored.
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "ddl" / name


def read_data_set(name: str) -> tuple[Origin, Split, Split]:
    """The prepared data set, mapped into memory, its sha256 checked.

    Raises FileNotFoundError where it is not prepared and Damaged where the file is not what was written.
    """
    path = cache_folder(name) / FILE
    try:
        with safe_open(path, framework="pt") as file:
            origin = Origin(**json.loads((file.metadata() or {})["origin"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dictionary)
        train, val = from_tensors(tensors)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise Damaged(f"{path}: the prepared data cannot be read ({error}).") from error
    found = fingerprint(tensors)
    if found != origin.sha256 or origin.name != name:
        raise Damaged(f"{path}: the prepared data of {origin.name} has sha256 {found}, not {origin.sha256}.")
    return origin, train, val


def write_data_set(name: str, source: str, train: Split, val: Split) -> None:
    """Keep the whole official content of a data set, which came from `source`."""
    tensors = {key: tensor.contiguous() for key, tensor in to_tensors(train, val).items()}
    origin = Origin(name, source, complete=True, fallback_for="", sha256=fingerprint(tensors))
    write_tensors(name, FILE, tensors, {"origin": json.dumps(origin.metadata())})


def write_tensors(name: str, file: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as `file` of the folder of `name`, whole or not at all. Only under the lock."""
    with workspace(name) as work:
        draft = work / file
        save_file(dict(tensors), draft, metadata=dict(metadata))
        draft.chmod(0o644)  # safetensors lets only the owner read it, but a cache may be shared
        _put(draft, cache_folder(name) / file)


def read_files(name: str, content: str, files: Iterable[str]) -> tuple[Origin, Path]:
    """The folder with the `files` of an item, their sha256 checked. Raises like `read_data_set`."""
    place = cache_folder(name) / FILES[content]
    try:
        origin = Origin(**json.loads((place / ORIGIN).read_text()))
        found = fingerprint_of_files(place, files)
    except FileNotFoundError as error:
        if not place.exists():
            raise
        raise Damaged(f"{place}: lacks {error.filename}.") from error
    except (TypeError, ValueError) as error:
        raise Damaged(f"{place / ORIGIN}: cannot be read ({error}).") from error
    if found != origin.sha256 or origin.name != name:
        raise Damaged(f"{place}: the files of {origin.name} have sha256 {found}, not {origin.sha256}.")
    return origin, place


def write_files(name: str, content: str, origin: Origin, place: Path, files: Iterable[str]) -> None:
    """Keep the `files` in the folder `place`, which lies in a workspace, as those of an item: they are moved."""
    with workspace(name) as work:
        draft = work / FILES[content]
        draft.mkdir()
        for file in files:
            os.replace(place / file, draft / file)
            durable.sync(draft / file)
        (draft / ORIGIN).write_text(json.dumps(origin.metadata()))
        durable.sync(draft / ORIGIN)
        _put(draft, cache_folder(name) / FILES[content])


@contextmanager
def lock(name: str) -> Iterator[None]:
    """One process at a time prepares a data set. The kernel drops the lock with its process, however that ends."""
    cache_folder(name).mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder(name) / "prepare.lock"):
        # Whoever left these was killed: the lock is ours.
        for left in cache_folder(name).glob("work-*"):
            shutil.rmtree(left)
        yield


@contextmanager
def workspace(name: str) -> Iterator[Path]:
    """An empty folder on the cache's own disk, gone afterwards. Only under the lock."""
    with tempfile.TemporaryDirectory(prefix="work-", dir=cache_folder(name)) as work:
        yield Path(work)


def remember_unavailable(name: str, reason: str) -> None:
    """Note that no source had the data just now, for processes that would try them all again at once."""
    with workspace(name) as work:
        draft = work / VERDICT
        draft.write_text(json.dumps({"at": time.time(), "reason": reason}))
        _put(draft, cache_folder(name) / VERDICT)


def unavailable_since(name: str, earliest: float) -> str | None:
    """Why no source had the data, where that was found out at `earliest` (Unix time, s) or later."""
    try:
        noted = json.loads((cache_folder(name) / VERDICT).read_text())
        at, reason = float(noted["at"]), str(noted["reason"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # it only spares time, so an unreadable one is none
    # A clock that was set back must not make a verdict last.
    return reason if earliest <= at <= time.time() else None


def _put(draft: Path, path: Path) -> None:
    """Move a file or folder to its place, for good: it and its entry there are on the disk when this returns."""
    durable.sync(draft)
    os.replace(draft, path)
    durable.sync(path.parent)
