"""What is refused, and what becomes of it: bytes that are not the expected ones are never read as data."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

HEAD = 512
"""Bytes looked at to tell a web page from data."""


class Unavailable(Exception):
    """A source did not give what it was asked for. The message says which and why; another source may have it."""


class Damaged(ValueError):
    """Bytes are not what they should be. The message names the file, what is wrong with it and how to mend that."""


def verify(path: Path, checksum: str) -> None:
    """Raises Damaged where the file is absent or its digest is not `checksum`, written "md5:..." or "sha256:..."."""
    if not path.is_file():
        raise Damaged(f"{path}: there is no such file.")
    algorithm, _, expected = checksum.partition(":")
    found = file_digest(path, algorithm)
    if found == expected:
        return
    if is_web_page(path):
        raise Damaged(f"{path}: a web page, not data. A proxy or a login may stand between; see it in a browser.")
    raise Damaged(f"{path}: {path.stat().st_size:,} bytes with {algorithm} {found}, not {expected}: cut off or altered.")


def file_digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def fingerprint_of_files(folder: Path, files: Iterable[str]) -> str:
    """The sha256 over the names and the sha256 of these files, in the order of their names. Raises FileNotFoundError."""
    lines = [f"{file} {file_digest(folder / file, 'sha256')}\n" for file in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(HEAD).lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html"))


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder so that nobody reads it and its owner can look at it. Returns its new place."""
    aside = path.with_name(path.name + ".damaged")
    if aside.is_dir():  # no folder can be renamed to one that is not empty
        shutil.rmtree(aside)
    os.replace(path, aside)
    return aside
