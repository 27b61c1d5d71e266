"""HTTP downloads that are verified, and resumed after an interruption."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from ddl.data.integrity import WEB_PAGE, Damaged, Unavailable, set_aside, verify

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
MAX_REQUESTS = 20
"""Requests for one download. After a request that received no new bytes, there is no further one."""
CHUNK = 1 << 16
"""Bytes written at a time. A broken connection loses the current chunk, so chunks are small."""

log = logging.getLogger(__name__)


def download_file(url: str, path: Path, checksum: str) -> None:
    """Download `url` to `path` and verify its `checksum` ("md5:..." or "sha256:..."). A verified `path` is not downloaded again.

    Resumes from `path`.part. Only one process at a time may download to a path. Raises Unavailable if the host cannot be
    reached or has no such file, and Damaged if the checksum is wrong; the file is then next to `path`, named *.damaged.
    """
    if path.exists():
        try:
            return verify(path, checksum)
        except Damaged as error:
            log.warning("%s It is set aside as %s and fetched again.", error, set_aside(path))
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.exists()
    _download(url, part)
    try:
        verify(part, checksum)
    except Damaged as error:
        aside = set_aside(part)
        if not resumed:
            raise Damaged(f"{display_url(url)}: {error} It is set aside as {aside}.") from error
        # The file on the host may have changed since the first part was downloaded.
        log.warning("%s: the resumed download has the wrong checksum. It is set aside as %s and fetched again.", display_url(url), aside)
        download_file(url, path, checksum)
        return
    os.replace(part, path)


def display_url(url: str) -> str:
    """The URL without user, password and query, for messages and records."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr if that is a terminal. Yields a function to call with the number of new bytes.

    Without a `total` the bar only shows activity.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    if total is not None:
        columns += [DownloadColumn(), TransferSpeedColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(description, total=total)
        yield lambda count: progress.advance(bar, count)


def _download(url: str, part: Path) -> None:
    """Append the rest of `url` to `part`, in as many requests as needed."""
    for _ in range(MAX_REQUESTS):
        before = _size(part)
        try:
            _transfer(url, part)
            return
        except requests.RequestException as error:
            # The error's own text contains the full URL, which may contain a password.
            reason = _reason(error)
        if _size(part) <= before:
            break
        log.info("%s: interrupted at %d bytes (%s), resuming.", display_url(url), _size(part), reason)
    raise Unavailable(f"{display_url(url)}: {reason}")


def _transfer(url: str, part: Path) -> None:
    """One request. Raises requests.RequestException if it is interrupted; `part` then contains the bytes received."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)) as response:
        if have and response.status_code == requests.codes.range_not_satisfiable:
            return  # complete; the caller checks the checksum
        if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise Unavailable(f"{display_url(url)}: HTTP {response.status_code} {response.reason}")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise Damaged(f"{display_url(url)}: {WEB_PAGE}")
        if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the host does not support ranges and sends the whole file
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with progress_bar(part.stem, total) as advance, part.open("ab" if have else "wb") as file:
            advance(have)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if total is not None and _size(part) < total:
            raise requests.ConnectionError("cut off")


def _reason(error: requests.RequestException) -> str:
    match error:
        case requests.ConnectTimeout():
            return f"no connection within {CONNECT_TIMEOUT_S} s"
        case requests.ReadTimeout():
            return f"no data for {READ_TIMEOUT_S} s"
        case requests.exceptions.ChunkedEncodingError():
            return "the transfer was interrupted"
        case requests.ConnectionError():
            return "connection failed or closed"
        case _:
            return f"the request failed ({type(error).__name__})"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
