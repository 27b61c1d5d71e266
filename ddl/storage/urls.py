"""URLs of object stores, and the local folders of the runs that are uploaded there."""

import hashlib
import re
from pathlib import Path
from typing import Any

from ddl.data.cache import cache_folder
from ddl.redaction import WITHHELD

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "file", "local")
"""Schemes of the stores that can hold runs. The clients of others, such as FTP's, connect as soon as they are made."""


def is_url(text: str) -> bool:
    """True for a URL, false for a path."""
    return "://" in text


def url_problem(url: str) -> str:
    """Error message for a URL that cannot hold runs, or "" for a valid one. Makes no request.

    The message has neither users and passwords nor options: one may be a secret. Neither is parsed, because an unquoted password may contain
    any character: a user ends at the last @.
    """
    shown = re.split(r"[?#]", re.sub(r"://.*@", f"://{WITHHELD}@", url, flags=re.DOTALL))[0]
    if re.search(r"://[^/]*[@:]|[?#]|::", url):
        return f"{shown}: must not contain a user, a password or options. Set credentials in the environment (AWS_ACCESS_KEY_ID, ...)."
    if url.partition("://")[0] not in STORES:
        return f"{shown}: not a usable store. Use s3, gs, az, or file for a folder."
    try:
        filesystem(url)
    except (ImportError, ValueError) as error:
        return f"{shown}: not a usable store ({str(error).rstrip('.')})."
    return ""


def local_folder(url: str) -> Path:
    """Local folder of the runs that are uploaded to `url`."""
    return cache_folder("runs") / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:12]


def local_run(url: str) -> Path:
    """Local folder of the run at `url`."""
    base, sweep, stamp = url.rstrip("/").rsplit("/", 2)
    return local_folder(base) / sweep / stamp


def folder_of(url: str) -> Path | None:
    """The folder of a URL of this machine's files (`file:///mnt/runs`), None for other URLs and for those that cannot be used."""
    if url_problem(url):
        return None
    from fsspec.implementations.local import LocalFileSystem

    opened, root = filesystem(url)
    return Path(root) if isinstance(opened, LocalFileSystem) else None


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the URL's path in it. Raises ImportError or ValueError for an unsupported scheme."""
    import fsspec  # takes a third of a second, which a run in a folder should not cost

    options: dict[str, Any] = {"use_listings_cache": False}
    if url.startswith(("s3://", "s3a://")):
        options["config_kwargs"] = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2}}
    filesystem, root = fsspec.core.url_to_fs(url, **options)
    return filesystem, root.rstrip("/")
