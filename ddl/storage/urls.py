"""URLs of object stores, and the local folders of the runs that are uploaded there."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ddl.data.cache import cache_folder

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "file", "local")
"""Schemes of the stores that can hold runs. The clients of others, such as FTP's, connect as soon as they are made."""


def is_url(text: str) -> bool:
    """True for a URL, false for a path."""
    return "://" in text


def url_problem(url: str) -> str:
    """Error message for a URL that cannot hold runs, or "" for a valid one. Makes no request."""
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment or "::" in url:
        return f"{shown}: must not contain a user, a password or options. Set credentials in the environment (AWS_ACCESS_KEY_ID, ...)."
    if parts.scheme not in STORES:
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
