"""Safe unpacking of third-party archives: only regular files and folders, only inside the target folder, only to a size limit.

Verify an archive's checksum before opening it. These rules protect against an archive that was malicious when it was published.
"""

import gzip
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from ddl.data.integrity import Damaged

MAX_FILES = 500_000
MAX_BYTES = 4 << 30
MAX_RATIO = 200
"""Unpacked bytes for each packed one. Images and text stay below 20."""
SMALL = 1 << 20
"""Unpacked bytes up to which the ratio is ignored: a small tar file is mostly padding."""
CHUNK = 1 << 20

LONGEST_NAME = 255
"""Bytes of one part of a file's name that every file system accepts."""
LONGEST_PATH = 1000
"""Bytes of a member's whole name."""

BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, struct.error)
BROKEN_HEADER = (ValueError, ArithmeticError, LookupError, NotImplementedError, RuntimeError)
"""Errors that the readers of zip and tar files raise for fields that make no sense, in addition to their own."""


def extract(archive: Path, into: Path, members: Mapping[str, str] | None = None) -> None:
    """Unpack a zip file (a wheel is one) or a tar file, plain or gzipped, into the folder `into`.

    `members` maps the names to extract to their new names; without it every file is extracted under its own name.
    Raises Damaged if the archive is broken, lacks a member, contains anything but files and folders with plain relative
    names, or exceeds MAX_FILES, MAX_BYTES or MAX_RATIO. Files extracted before the error stay in `into`.
    """
    taken: set[str] = set()
    try:
        with _broken_as_damaged(archive, "an archive"):
            for name, file in _files(archive):
                target = name if members is None else members.get(name)
                if target is None:
                    continue
                if name in taken:
                    if _read_all(file) != (into / target).read_bytes():
                        raise Damaged(f"{archive}: contains {name} twice, with different content.")
                    continue
                taken.add(name)
                _write(file, into / target)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Damaged(f"{archive}: two of its names collide at {error.filename}. Unpack it into an empty folder.") from error
    if missing := sorted(set(members or ()) - taken):
        raise Damaged(f"{archive}: lacks {', '.join(missing)}.")


def read_archive(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file in an archive. Same rules and errors as `extract`."""
    with _broken_as_damaged(archive, "an archive"):
        for name, file in _files(archive):
            yield name, _read_all(file)


def gunzip(packed: Path, target: Path) -> None:
    """Unpack one gzipped file. Raises Damaged if it is broken or too large."""
    with _broken_as_damaged(packed, "gzip"), gzip.open(packed) as file:
        _write(_Allowance(packed).bounded(file), target)


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Allowance:
    """The number of files and bytes that an archive may still unpack to."""

    def __init__(self, archive: Path):
        self.archive = archive
        self.bytes = min(MAX_BYTES, max(SMALL, MAX_RATIO * archive.stat().st_size))
        self.files = MAX_FILES

    def count_file(self) -> None:
        self.files -= 1
        if self.files < 0:
            raise Damaged(f"{self.archive}: contains more than {MAX_FILES:,} files.")

    def bounded(self, file: _Readable) -> "_Bounded":
        return _Bounded(file, self)


class _Bounded:
    """A file that raises Damaged once its archive's allowance is used up."""

    def __init__(self, file: _Readable, allowance: _Allowance):
        self._file = file
        self._allowance = allowance

    def read(self, size: int = CHUNK, /) -> bytes:
        data = self._file.read(size)
        self._allowance.bytes -= len(data)
        if self._allowance.bytes < 0:
            raise Damaged(f"{self._allowance.archive}: unpacks to more than {MAX_RATIO} times its size, or than {MAX_BYTES >> 30} GiB.")
        return data


@contextmanager
def _broken_as_damaged(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except Damaged:
        raise
    except (*BROKEN, *BROKEN_HEADER) as error:
        raise Damaged(f"{path}: cut off or not {kind} ({error}). Remove it, so that it is fetched again.") from error


def _files(archive: Path) -> Iterator[tuple[str, _Readable]]:
    allowance = _Allowance(archive)
    for name, file in (_zip_files if zipfile.is_zipfile(archive) else _tar_files)(archive, allowance):
        allowance.count_file()
        if not PurePosixPath(name).parts:
            raise Damaged(f"{archive}: {name!r} is the target folder itself, as a file. It is not unpacked.")
        yield name, file


def _tar_files(archive: Path, allowance: _Allowance) -> Iterator[tuple[str, _Readable]]:
    with archive.open("rb") as head:
        opened = gzip.open if head.read(2) == b"\x1f\x8b" else open
    with (
        opened(archive, "rb") as file,
        # The whole stream is bounded, not only the files in it: tarfile reads long headers into memory.
        tarfile.open(fileobj=allowance.bounded(file), mode="r|") as tar,  # type: ignore[call-overload]
    ):
        for member in tar:
            _check_name(archive, member.name)
            if member.isdir():
                continue
            # The header of a sparse file may claim terabytes.
            if not member.isfile() or member.issparse():
                raise Damaged(f"{archive}: {member.name!r} is neither a file nor a folder. It is not unpacked.")
            content = tar.extractfile(member)
            assert content is not None, member
            yield member.name, content


def _zip_files(archive: Path, allowance: _Allowance) -> Iterator[tuple[str, _Readable]]:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            _check_name(archive, member.filename)
            if member.is_dir():
                continue
            # zipfile unpacks the other methods into memory without a bound.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Damaged(f"{archive}: {member.filename!r} is packed by method {member.compress_type}. It is not unpacked.")
            if member.header_offset < 0:  # the file would be sought before its beginning, which is an error of the system
                raise Damaged(f"{archive}: the place of {member.filename!r} is before its beginning. It is not unpacked.")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or member.flag_bits & 1:
                raise Damaged(f"{archive}: {member.filename!r} is not a plain file. It is not unpacked.")
            with packed.open(member) as content:
                yield member.filename, allowance.bounded(content)


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(mark in name for mark in "\\:\0"):
        raise Damaged(f"{archive}: {name!r} would leave the target folder. It is not unpacked.")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts) or len(os.fsencode(name)) > LONGEST_PATH:
        raise Damaged(f"{archive}: {name[:100]!r} cannot be a file's name. It is not unpacked.")


def _read_all(file: _Readable) -> bytes:
    return b"".join(iter(lambda: file.read(CHUNK), b""))


def _write(source: _Readable, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, CHUNK)
