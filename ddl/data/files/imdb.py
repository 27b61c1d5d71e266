"""IMDB film reviews (Maas et al., Learning Word Vectors for Sentiment Analysis, 2011): 25,000 + 25,000, half of each positive.

The official archive itself is kept: it holds a file a review. Film-review sentences stand in where it cannot be had.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ddl.data.integrity import Unavailable
from ddl.data.recipe import Archive

FILE = "aclImdb_v1.tar.gz"
CONTENT = {FILE: "md5:7c2ac02c03563afcf9b574c7e56c153a"}
ARCHIVES = (Archive(FILE, CONTENT[FILE], ("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",)),)
SAMPLE: dict[str, str] = {}
FALLBACK = "reviews"


def unpack(archives: Sequence[Path], content: Path) -> None:
    shutil.copyfile(archives[0], content / FILE)


def from_package(work: Path, content: Path) -> str:
    raise Unavailable(f"{FILE}: no package has it")


def sample(into: Path) -> None:
    raise AssertionError("imdb has no sample: reviews stand in")
