"""Makes the bundled texts and vectors from the whole official files: python -m ddl.data.samples.make_files

Ten of the plays, all film-review sentences, the most frequent words of GloVe. Prints the sha256 that `SAMPLE` in their modules
has to name. The airline series is written down in airline.csv itself.
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
from ddl.data.files import glove, plays, reviews

TITLE = rb"\n{4}(?=[^\n]+\n\nby William Shakespeare\n)"


def main() -> None:
    whole = (official("plays") / plays.FILE).read_bytes()
    texts = dict(zip(plays.PLAYS, re.split(TITLE, whole.removesuffix(b"\n")), strict=True))
    pack(plays.FILE, plays.BETWEEN.join(texts[play] for play in plays.BUNDLED) + b"\n")
    with tempfile.TemporaryDirectory() as folder:  # the whole is bundled, so `files` would ask no package for it
        reviews.from_package(Path(folder), Path(folder))
        pack(reviews.FILE, (Path(folder) / reviews.FILE).read_bytes())
    with (official("glove") / glove.FILE).open(encoding="utf-8") as file:
        rows = [line.split(" ") for line in itertools.islice(file, glove.CUT)]
    vectors = io.BytesIO()
    np.save(vectors, np.array([row[1:] for row in rows], dtype=np.float16))
    pack(glove.WORDS, "\n".join(row[0] for row in rows).encode())
    pack(glove.VECTORS, vectors.getvalue())
    for recipe in (plays, reviews, glove):
        with tempfile.TemporaryDirectory() as folder:
            recipe.sample(Path(folder))
            content = (Path(folder) / recipe.FILE).read_bytes()
        print(f"{recipe.__name__}: {len(content):,} bytes, sha256:{hashlib.sha256(content).hexdigest()}")


def official(name: str) -> Path:
    found = sources.load_files(name)
    if not found.origin.complete:
        raise SystemExit(f"{name}: {found.origin.source} is not the whole, so no sample is made from it.")
    return found.folder


def pack(file: str, content: bytes) -> None:
    path = bundled_files.FOLDER / f"{file}.xz"
    path.write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
