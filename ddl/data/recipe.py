"""Recipe types: what each data set and each file item declares about its official content."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddl.data.archives import extract
from ddl.data.bundled_files import unpack_bundled
from ddl.data.packages import Package
from ddl.data.splits import Split

MAX_BYTES = 1 << 30
"""Largest size of a published file whose recipe has no other: the largest one, GloVe's, has 862 MB."""


@dataclass(frozen=True)
class Archive:
    """A file as its authors publish it, with its checksum ("md5:..." or "sha256:..."). The URLs are tried in order.

    A host that sends more than `max_bytes` sends something else.
    """

    file: str
    checksum: str
    urls: tuple[str, ...]
    max_bytes: int = MAX_BYTES


@dataclass(frozen=True, kw_only=True)
class DataSetRecipe:
    """A data set of images that become tensors."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    """(channels, height, width)."""
    mean: tuple[float, ...]
    """Per channel, of the training images / 255."""
    std: tuple[float, ...]
    """Same as `mean`."""
    content: Mapping[str, str]
    """Official checksum of each official file, unpacked."""
    archives: tuple[Archive, ...]
    unpack: Callable[[Sequence[Path], Path], None]
    """Unpacks the archives, given in the order of `archives`, to the official files in a folder."""
    package: Package | None = None
    decode: Callable[[Path], tuple[Split, Split]]
    """Training and validation split from the folder of the official files. Raises Damaged if their format is wrong."""
    fallback: str = ""
    """Name of the data set that replaces one without a bundled sample; empty if there is a sample."""
    sha256: str = ""
    """`fingerprint` of the decoded official content; empty if it is not known."""


@dataclass(frozen=True, kw_only=True)
class FileRecipe:
    """An item that stays a file: text, vectors or weights."""

    name: str
    file: str
    checksum: str
    """Official checksum of `file`."""
    urls: tuple[str, ...] = ()
    """URLs of `file` itself, tried in order."""
    max_bytes: int = MAX_BYTES
    """Largest size of `file` that is downloaded from `urls`."""
    archive: Archive | None = None
    """The archive that contains `file`, if it is not published by itself."""
    package: Package | None = None
    sample: str = ""
    """Checksum of the bundled version of `file`: empty if none is bundled, equal to `checksum` if all of it is."""
    write_sample: Callable[[Path], None] | None = None
    """Writes the bundled version into a folder. None: it is bundled under the name `file`."""
    fallback: str = ""
    """Name of the item to use if the official file is unavailable and there is no sample; empty if there is none."""

    @property
    def content(self) -> Mapping[str, str]:
        """Official checksum of each official file."""
        return {self.file: self.checksum}

    @property
    def archives(self) -> tuple[Archive, ...]:
        """The file as it is published."""
        return (self.archive or Archive(self.file, self.checksum, self.urls, self.max_bytes),)

    def unpack(self, archives: Sequence[Path], content: Path) -> None:
        """Extract the official file from the archive, or copy it, to the folder `content`."""
        if self.archive:
            extract(archives[0], content, {self.file: self.file})
        else:
            shutil.copyfile(archives[0], content / self.file)

    def unpack_sample(self, into: Path) -> None:
        """Write the bundled version of `file` into a folder. Raises ValueError if it cannot be unpacked."""
        if self.write_sample:
            self.write_sample(into)
        else:
            unpack_bundled(self.file, into)


Recipe = DataSetRecipe | FileRecipe
