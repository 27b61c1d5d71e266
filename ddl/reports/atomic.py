"""Files that are there in full or not at all: someone may open the report while the sweep rewrites it."""

import os
import tempfile
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Write `content` to `path`, in place of what was there, at one moment."""
    # A name of its own for each writer, in the same folder because a rename is atomic only within a file system.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)  # mkstemp gives 0600, which nobody could pass on
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
