"""URLs of stores, and the local folders in which their runs are made."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec

from ddl.data import store


def is_url(text: str) -> bool:
    return "://" in text


def url_problem(url: str) -> str:
    """What is wrong with a URL as a place for runs, and how to mend it; empty where nothing is. Asks nobody."""
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment or "::" in url:
        return f"{shown}: a URL of a store holds no user, password or options. Give credentials by the environment, as AWS_ACCESS_KEY_ID."
    try:
        filesystem(url)
    except (ImportError, ValueError) as error:
        return f"{shown}: no store that can be used ({str(error).rstrip('.')})."
    return ""


def local_folder(url: str) -> Path:
    """The local folder in which the runs kept at `url` are made."""
    return store.cache_folder("runs") / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:12]


def local_run(url: str) -> Path:
    """The local folder of the one run at `url`."""
    base, sweep, stamp = url.rstrip("/").rsplit("/", 2)
    return local_folder(base) / sweep / stamp


def filesystem(url: str) -> tuple[Any, str]:
    options: dict[str, Any] = {"use_listings_cache": False}
    if url.startswith(("s3://", "s3a://")):
        options["config_kwargs"] = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2}}
    filesystem, root = fsspec.core.url_to_fs(url, **options)
    return filesystem, root.rstrip("/")
