"""Temporary folders that do not outlive their process for long, however it ends."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PREFIX = "ddl-"
LOCK = "lock"
"""File that the process of a folder holds locked. The kernel releases it with the process."""


@contextlib.contextmanager
def scratch_folder(purpose: str, base: Path | None = None) -> Iterator[Path]:
    """A new temporary folder `base`/ddl-`purpose`-..., readable by its owner only, and removed at the end of the context.

    The first call of a process also removes the folders in `base` whose processes were killed. base: by default the system's folder for
    temporary files.
    """
    base = base or Path(tempfile.gettempdir())
    _remove_abandoned(base)
    # Locked before it gets the name by which others find it.
    draft = Path(tempfile.mkdtemp(prefix=f".{PREFIX}{purpose}-", dir=base))
    folder = draft.with_name(draft.name.removeprefix("."))
    try:
        with (draft / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft.rename(folder)
            yield folder
    finally:
        for made in (draft, folder):
            shutil.rmtree(made, ignore_errors=True)


def is_held(folder: Path) -> bool:
    """True if `folder` is a temporary folder of this user whose process lives."""
    # Another one's folder, or one that another process has just removed, cannot be opened.
    with contextlib.suppress(OSError), (folder / LOCK).open("r+") as lock:
        if not folder.is_symlink() and folder.stat().st_uid == os.getuid():
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


@cache
def _remove_abandoned(base: Path) -> None:
    for folder in base.glob(f"{PREFIX}*"):
        # Another one's folder, or one that another process has just removed, cannot be opened.
        with contextlib.suppress(OSError), (folder / LOCK).open("r+") as lock:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
