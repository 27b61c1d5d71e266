"""Downloads over HTTP: verified, and continued where they broke off."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from ddl.data.integrity import Damaged, Unavailable, set_aside, verify

CONNECT_S = 5
SILENCE_S = 30
RESUMPTIONS = 20
"""How often one download is continued after it broke off. Each must have brought something, or it ends there."""
CHUNK = 1 << 16
"""Bytes written at a time. Where a connection breaks, what came of the last chunk is lost, so chunks are small."""

log = logging.getLogger(__name__)


def download_file(url: str, path: Path, checksum: str) -> None:
    """Download `url` to `path`, whose bytes have `checksum` ("md5:..." or "sha256:..."); nothing to do where they are there.

    What an interrupted download left in `path`.part is continued. Only one process at a time may fetch to a path.
    Raises Unavailable where the host cannot be reached or has no such file, and Damaged where it gave something else,
    which is then beside `path`, named *.damaged.
    """
    if path.exists():
        try:
            return verify(path, checksum)
        except Damaged as error:
            log.warning("%s It is set aside as %s and fetched again.", error, set_aside(path))
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    continued = part.exists()
    _download(url, part)
    try:
        verify(part, checksum)
    except Damaged as error:
        aside = set_aside(part)
        if not continued:
            raise Damaged(f"{display_url(url)}: {error} It is set aside as {aside}.") from error
        # The host's file may have changed since the first part was taken: the whole of it, once.
        log.warning("%s: the parts do not add up; set aside as %s, fetched again.", display_url(url), aside)
        download_file(url, path, checksum)
        return
    os.replace(part, path)


def display_url(url: str) -> str:
    """The URL without user, password and query, fit for messages and records."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr, nothing elsewhere. Gives a function to call with the bytes that came.

    Without a `total` the bar only shows that something goes on.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    if total is not None:
        columns += [DownloadColumn(), TransferSpeedColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda count: progress.advance(bar, count)


def _download(url: str, part: Path) -> None:
    """Fill `part` from `url`, from where it ends."""
    for _ in range(RESUMPTIONS):
        before = _size(part)
        try:
            _transfer(url, part)
            return
        except requests.RequestException as error:
            # The errors' own texts hold the whole URL, which may hold a password.
            reason = _reason(error)
        if _size(part) <= before:
            break
        log.info("%s: broke off at %d bytes (%s), continued.", display_url(url), _size(part), reason)
    raise Unavailable(f"{display_url(url)}: {reason}")


def _transfer(url: str, part: Path) -> None:
    """One request. Raises requests.RequestException where it broke off; `part` then holds what came."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_S, SILENCE_S)) as response:
        if have and response.status_code == requests.codes.range_not_satisfiable:
            return  # nothing is missing; whether it is right the checksum tells
        if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise Unavailable(f"{display_url(url)}: HTTP {response.status_code} {response.reason}")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise Damaged(f"{display_url(url)}: gave a web page, not data. A proxy or a login may stand between; see it in a browser.")
        if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # a host that does not continue sends the whole again
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with progress_bar(part.stem, total) as came, part.open("ab" if have else "wb") as file:
            came(have)
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                came(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if total is not None and _size(part) < total:
            raise requests.ConnectionError("cut off")


def _reason(error: requests.RequestException) -> str:
    match error:
        case requests.ConnectTimeout():
            return f"no connection within {CONNECT_S} s"
        case requests.ReadTimeout():
            return f"connected, then silent for {SILENCE_S} s"
        case requests.exceptions.ChunkedEncodingError():
            return "the transfer broke off"
        case requests.ConnectionError():
            return "no lasting connection"
        case _:
            return f"the request failed ({type(error).__name__})"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
