"""Writing files that survive a crash: on the disk when the call returns, and whole or absent."""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` and sync it. After a crash meanwhile, `path` may hold a part of it."""
    with path.open("wb") as file:
        _write_synced(file, content)


def replace_file(path: Path, content: bytes) -> None:
    """Replace what is at `path` by `content` in one step, so that a reader sees the old or the new file, never a part."""
    # Each writer has its own draft, in the same folder because a rename is atomic only within a file system.
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            _write_synced(file, content)
            os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 would let nobody else read it
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _write_synced(file: BinaryIO, content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Sync a file, or a folder with the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
