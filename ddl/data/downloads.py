"""HTTP downloads that are verified, and resumed after an interruption."""

import http.client
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from ddl.data.integrity import WEB_PAGE, Damaged, Unavailable, set_aside, verify
from ddl.durable import sync
from ddl.redaction import printable

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
MAX_REQUESTS = 20
"""Requests for one download. After a request that received no new bytes, there is no further one."""
DOWNLOAD_S = 3600.0
"""Seconds for one download, all requests together: a host may send a byte now and then without end."""
MALFORMED = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError)
"""Errors for a host that sends nonsense: a header that is no number, a redirect that is no URL."""
CHUNK = 1 << 16
"""Bytes written at a time. A broken connection loses the current chunk, so chunks are small."""

log = logging.getLogger(__name__)


def download_file(url: str, path: Path, checksum: str, max_bytes: int) -> None:
    """Download `url` to `path` and verify its `checksum` ("md5:..." or "sha256:..."). A verified `path` is not downloaded again.

    Resumes from `path`.part. Only one process at a time may download to a path. Raises Unavailable if the host cannot be
    reached, has no such file, sends a malformed response or takes longer than `DOWNLOAD_S`, and Damaged if it sends more than `max_bytes`
    or the checksum is wrong; in the latter case the file is next to `path`, named *.damaged.
    """
    if path.exists():
        try:
            return verify(path, checksum)
        except Damaged as error:
            log.warning("%s It is set aside as %s and fetched again.", error, set_aside(path))
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.exists()
    _download(url, part, max_bytes)
    try:
        verify(part, checksum)
    except Damaged as error:
        aside = set_aside(part)
        if not resumed:
            raise Damaged(f"{display_url(url)}: {error} It is set aside as {aside}.") from error
        # The file on the host may have changed since the first part was downloaded.
        log.warning("%s: the resumed download has the wrong checksum. It is set aside as %s and fetched again.", display_url(url), aside)
        download_file(url, path, checksum, max_bytes)
        return
    os.replace(part, path)


def display_url(url: str) -> str:
    """The URL without user, password and query, for messages and records."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that is malformed"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


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


def _download(url: str, part: Path, max_bytes: int) -> None:
    """Append the rest of `url` to `part`, in as many requests as needed."""
    deadline = time.monotonic() + DOWNLOAD_S
    for _ in range(MAX_REQUESTS):
        before = _size(part)
        try:
            _transfer_until(deadline, url, part, max_bytes)
            return
        except Damaged:
            raise
        except MALFORMED as error:
            # The error's own text contains the full URL, which may contain a password.
            reason = _reason(error)
        if _size(part) <= before:
            break
        log.info("%s: interrupted at %d bytes (%s), resuming.", display_url(url), _size(part), reason)
    raise Unavailable(f"{display_url(url)}: {reason}")


def _transfer_until(deadline: float, url: str, part: Path, max_bytes: int) -> None:
    """`_transfer` in a thread that is given up at the `deadline`: requests limits the wait for each byte, not for all of them."""
    outcome: list[Exception] = []
    given_up = threading.Event()

    def transfer() -> None:
        try:
            _transfer(url, part, max_bytes, given_up)
        except Exception as error:  # noqa: BLE001 (raised again in the caller's thread)
            outcome.append(error)

    thread = threading.Thread(target=transfer, name="download", daemon=True)
    thread.start()
    try:
        thread.join(max(deadline - time.monotonic(), 0))
    finally:
        given_up.set()
    if thread.is_alive():
        raise Unavailable(f"{display_url(url)}: not complete after {DOWNLOAD_S:g} s")
    if outcome:
        raise outcome[0]


def _transfer(url: str, part: Path, max_bytes: int, given_up: threading.Event) -> None:
    """One request. Raises one of `MALFORMED` if it is interrupted; `part` then contains the bytes received."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)) as response:
        if have and response.status_code == requests.codes.range_not_satisfiable:
            return  # complete; the caller checks the checksum
        if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise Unavailable(f"{display_url(url)}: HTTP {response.status_code} {printable(response.reason or '')}")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise Damaged(f"{display_url(url)}: {WEB_PAGE}")
        if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the host does not support ranges and sends the whole file
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        if total is not None and total < have:
            raise ValueError("a negative length")
        _check_size(url, part, total or 0, max_bytes)
        with progress_bar(part.stem, total) as advance, part.open("ab" if have else "wb") as file:
            advance(have)
            # Not `iter_content`, which waits for a whole chunk, and unpacks what the host has packed although it was not asked to.
            while (chunk := response.raw.read1(CHUNK, decode_content=False)) and not given_up.is_set():
                have += len(chunk)
                _check_size(url, part, have, max_bytes)
                file.write(chunk)
                advance(len(chunk))
        sync(part)
        if total is not None and _size(part) < total:
            raise requests.ConnectionError("cut off")


def _check_size(url: str, part: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        part.unlink(missing_ok=True)
        raise Damaged(f"{display_url(url)}: more than {max_bytes:,} bytes, so it is not the file.")


def _reason(error: Exception) -> str:
    match error:
        case requests.ConnectTimeout():
            return f"no connection within {CONNECT_TIMEOUT_S} s"
        case requests.ReadTimeout() | urllib3.exceptions.ReadTimeoutError():
            return f"no data for {READ_TIMEOUT_S} s"
        case requests.exceptions.ChunkedEncodingError() | urllib3.exceptions.ProtocolError():
            return "the transfer was interrupted"
        case requests.ConnectionError():
            return "connection failed or closed"
        case ValueError():  # also of requests, for a URL
            return f"a malformed response or URL ({type(error).__name__})"
        case _:
            return f"the request failed ({type(error).__name__})"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
