"""Monthly totals of international airline passengers, 1949-1960, in thousands (Box and Jenkins, Time Series Analysis,
1970, series G): 144 values, all of them bundled."""

from collections.abc import Sequence
from pathlib import Path

from ddl.data import bundled_files
from ddl.data.integrity import Unavailable
from ddl.data.recipe import Archive

FILE = "airline.csv"
CONTENT = {FILE: "sha256:eda0181c2450975f5ad68556dcf14367541b22553f0c628b9747334cfdc6c96c"}
ARCHIVES: Sequence[Archive] = ()
SAMPLE = CONTENT
FALLBACK = ""


def unpack(archives: Sequence[Path], content: Path) -> None:
    raise Unavailable(f"{FILE}: no host publishes it by itself")


def from_package(work: Path, content: Path) -> str:
    raise Unavailable(f"{FILE}: it comes with this package alone")


def sample(into: Path) -> None:
    bundled_files.unpack_bundled(FILE, into)
