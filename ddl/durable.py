"""Writing files that survive a crash: on the disk when the call returns, and whole or absent."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NEEDED = {
    errno.ENOSPC: "Free some space there",
    errno.EDQUOT: "Free some of your quota there",
    errno.EIO: "Check the disk",
    errno.EROFS: "Make it writable",
    errno.EACCES: "Make it writable",
    errno.EPERM: "Make it writable",
    errno.EBUSY: "End the program that has it open",
}


class CannotWrite(OSError):
    """A file of a run that cannot be written: `filename` is its path, `strerror` the system's reason."""

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written ({self.strerror})"

    @property
    def needed(self) -> str:
        """The instruction that removes the cause, as the beginning of a sentence."""
        return _NEEDED.get(self.errno or 0, "Correct this")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the system in the block become CannotWrite of `path`. The system itself names no file when a disk is full."""
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(error.errno, error.strerror or str(error), str(path)) from error


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` and sync it. After a crash meanwhile, `path` may hold a part of it. Raises CannotWrite."""
    with writing(path), path.open("wb") as file:
        _write_synced(file, content)


def replace_file(path: Path, content: bytes) -> None:
    """Replace what is at `path` by `content` in one step, so that a reader sees the old or the new file, never a part.

    Raises CannotWrite; the old file is then unchanged.
    """
    # Each writer has its own draft, in the same folder because a rename is atomic only within a file system.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with writing(path), draft.open("xb") as file:  # "x" follows no link; unlike a file of `tempfile`, it has the mode that the umask allows
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
    """Sync a file, or a folder with the names in it. Raises CannotWrite."""
    with writing(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
