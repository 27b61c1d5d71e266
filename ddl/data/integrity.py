"""Checksums, and the errors and renames for data that fails them. Unverified bytes are never read as data."""

import hashlib
import os
import shutil
from pathlib import Path

HEAD_BYTES = 512
"""Bytes read to recognise a web page."""
WEB_PAGE = "a web page, not data. A proxy or login page may be in the way; open the URL in a browser."


class Unavailable(Exception):
    """A source does not have the data, or cannot be reached. The message names the source and the reason; others may have it."""


class Damaged(ValueError):
    """Bytes are not the expected ones. The message names the file, what is wrong with it and how to fix it."""


def verify(path: Path, checksum: str) -> None:
    """Raises Damaged if the file is missing or its digest is not `checksum` ("md5:..." or "sha256:...")."""
    if not path.is_file():
        raise Damaged(f"{path}: there is no such file.")
    algorithm, _, expected = checksum.partition(":")
    digest = file_digest(path, algorithm)
    if digest == expected:
        return
    if is_web_page(path):
        raise Damaged(f"{path}: {WEB_PAGE}")
    raise Damaged(f"{path}: {path.stat().st_size:,} bytes with {algorithm} {digest}, not {expected}: cut off or altered.")


def file_digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file. `algorithm` is a name that hashlib knows."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def file_fingerprint(path: Path) -> str:
    """The sha256 over the name and the sha256 of a file. Raises FileNotFoundError."""
    return hashlib.sha256(f"{path.name} {file_digest(path, 'sha256')}\n".encode()).hexdigest()


def is_web_page(path: Path) -> bool:
    """True if the file begins like an HTML page."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES).lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html"))


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to *.damaged, so that it is not read but can be inspected. Returns its new path."""
    aside = path.with_name(path.name + ".damaged")
    if aside.is_dir():  # a folder cannot replace one that is not empty
        shutil.rmtree(aside)
    os.replace(path, aside)
    return aside
