"""The folder of the cache, of prepared data and of runs that are uploaded."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """The cache folder of the data set or item `name`, in DDL_CACHE, else $XDG_CACHE_HOME/ddl, else ~/.cache/ddl."""
    if chosen := os.environ.get("DDL_CACHE"):
        return Path(chosen).expanduser().absolute() / name
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore a relative path.
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "ddl" / name
