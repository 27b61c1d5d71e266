"""Writing files that survive a crash: on the disk when the call returns, and whole or absent."""

import os
import secrets
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` and sync it. After a crash meanwhile, `path` may hold a part of it."""
    with path.open("wb") as file:
        _write_synced(file, content)


def replace_file(path: Path, content: bytes) -> None:
    """Replace what is at `path` by `content` in one step, so that a reader sees the old or the new file, never a part."""
    # Each writer has its own draft, in the same folder because a rename is atomic only within a file system.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with draft.open("xb") as file:  # "x" follows no link; unlike a file of `tempfile`, it has the mode that the umask allows
        try:
            _write_synced(file, content)
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only this user can read, and sync it. Raises FileExistsError if it exists."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        _write_synced(file, content)


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
