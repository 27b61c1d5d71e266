"""The cache of prepared data: one safetensors file per data set, which every process maps into its memory, and one folder
per file item.

A file or folder of the cache is complete or absent: it is written to a draft, synchronised and renamed.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ddl import durable
from ddl.data.cache import cache_folder
from ddl.data.integrity import Damaged, file_fingerprint, set_aside
from ddl.data.splits import Origin, Split, fingerprint, from_tensors, to_tensors

FILE = "full-2.safetensors"
"""The number is the layout version: a release with another layout neither reads nor changes this file."""
FOLDERS = {"full": "files-2", "sample": "sample-2"}
"""Folder of a file item, by content."""
ORIGIN = "origin.json"
VERDICT = "unavailable.json"

log = logging.getLogger(__name__)
Prepared = TypeVar("Prepared")


def read_data_set(name: str, sha256: str = "") -> tuple[Origin, Split, Split]:
    """The prepared data set, mapped into memory, with its sha256 checked: the one given or, if none is known, the one in the file.

    Raises FileNotFoundError if it is not prepared, Damaged if the file is not what was written, and ValueError if no sha256 is given and
    the file belongs to another user, who could have written anything.
    """
    path = cache_folder(name) / FILE
    if not sha256:
        _check_owner(path)
    try:
        tensors, metadata = read_tensors(path)
        origin = Origin(**json.loads(metadata["origin"]))
        train, val = from_tensors(tensors)
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise Damaged(f"{path}: the prepared data cannot be read ({error}).") from error
    found = fingerprint(tensors)
    _check_origin(path, origin, name, found)
    if sha256 and found != sha256:
        raise Damaged(f"{path}: the prepared data has sha256 {found}, but the official data has {sha256}.")
    return origin, train, val


def write_data_set(name: str, source: str, train: Split, val: Split) -> None:
    """Write the full official content of a data set, which came from `source`."""
    tensors = {key: tensor.contiguous() for key, tensor in to_tensors(train, val).items()}
    origin = Origin(name, source, complete=True, fallback_for="", sha256=fingerprint(tensors))
    write_tensors(name, FILE, tensors, {"origin": json.dumps(origin.metadata())})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, mapped into memory, and metadata of a safetensors file. Raises FileNotFoundError and SafetensorError."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (it is no dictionary)


def write_tensors(name: str, file: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as `file` in the folder of `name`, completely or not at all. Requires the lock."""
    with workspace(name) as work:
        draft = work / file
        save_file(dict(tensors), draft, metadata=dict(metadata))
        draft.chmod(0o644)  # safetensors makes it readable by the owner only, but a cache may be shared
        _put(draft, cache_folder(name) / file)


def read_item(name: str, content: str, file: str) -> tuple[Origin, Path]:
    """The path of an item's `file`, with its sha256 checked. Raises like `read_data_set`."""
    folder = cache_folder(name) / FOLDERS[content]
    try:
        origin = Origin(**json.loads((folder / ORIGIN).read_text()))
        sha256 = file_fingerprint(folder / file)
    except FileNotFoundError as error:
        if not folder.exists():
            raise
        raise Damaged(f"{folder}: lacks {error.filename}.") from error
    except (TypeError, ValueError) as error:
        raise Damaged(f"{folder / ORIGIN}: cannot be read ({error}).") from error
    _check_origin(folder, origin, name, sha256)
    return origin, folder / file


def write_item(content: str, origin: Origin, path: Path) -> None:
    """Move the file at `path`, which is in a workspace, into the cache as that of the item `origin.name`."""
    with workspace(origin.name) as work:
        draft = work / FOLDERS[content]
        draft.mkdir()
        os.replace(path, draft / path.name)
        durable.sync(draft / path.name)
        durable.write_file(draft / ORIGIN, json.dumps(origin.metadata()).encode())
        _put(draft, cache_folder(origin.name) / FOLDERS[content])


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Lets one process at a time prepare a data set. The kernel releases the lock when the process ends, also after a crash."""
    cache_folder(name).mkdir(parents=True, exist_ok=True)
    with FileLock(cache_folder(name) / "prepare.lock"):
        # Left by a process that was killed: nobody else has the lock.
        for left in cache_folder(name).glob("work-*"):
            shutil.rmtree(left)
        yield


@contextmanager
def workspace(name: str) -> Iterator[Path]:
    """An empty folder on the cache's disk, removed afterwards. Requires the lock."""
    with tempfile.TemporaryDirectory(prefix="work-", dir=cache_folder(name)) as work:
        yield Path(work)


def read_or_make(name: str, entry: str, read: Callable[[], Prepared], make: Callable[[Path], None]) -> Prepared:
    """The result of `read`, which reads the cache's file or folder `entry`. If that is missing, `make` first makes it in a workspace.

    Raises ValueError if the cache cannot be used.
    """
    try:
        try:
            return read()
        except (FileNotFoundError, Damaged):
            pass  # read again under the lock: another process may be preparing it
        with lock(name):
            try:
                return read()
            except FileNotFoundError:
                pass
            except Damaged as error:
                log.warning("%s It is set aside as %s and prepared again.", error, set_aside(cache_folder(name) / entry))
            with workspace(name) as work:
                make(work)
            return read()
    except OSError as error:
        raise ValueError(
            f"{cache_folder(name)}: {name} cannot be prepared there ({error}). Make room, or set DDL_CACHE to another folder."
        ) from error


def remember_unavailable(name: str, reason: str) -> None:
    """Record that no source has the data now, so that other processes need not try all of them again."""
    verdict = json.dumps({"at": time.time(), "reason": reason})
    durable.replace_file(cache_folder(name) / VERDICT, verdict.encode())


def unavailable_since(name: str, earliest: float) -> str | None:
    """The recorded reason that no source has the data, or None if it is older than `earliest` (Unix time, s)."""
    try:
        verdict = json.loads((cache_folder(name) / VERDICT).read_text())
        at, reason = float(verdict["at"]), str(verdict["reason"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # it only saves time, so an unreadable one is ignored
    # After the clock was set back, a verdict is in the future and must not last.
    return reason if earliest <= at <= time.time() else None


def _trusted_users() -> set[int]:
    return {os.getuid(), 0}


def _check_owner(path: Path) -> None:
    owner = path.stat().st_uid
    if owner not in _trusted_users():
        raise ValueError(
            f"{path}: belongs to another user (uid {owner}), and its content cannot be checked. Set DDL_CACHE to a folder of your own."
        )


def _check_origin(path: Path, origin: Origin, name: str, sha256: str) -> None:
    if sha256 != origin.sha256 or origin.name != name:
        raise Damaged(f"{path}: the prepared data of {origin.name} has sha256 {sha256}, not {origin.sha256}.")


def _put(draft: Path, path: Path) -> None:
    """Move a file or folder into place durably: when this returns, it and its directory entry are on the disk."""
    durable.sync(draft)
    os.replace(draft, path)
    durable.sync(path.parent)
