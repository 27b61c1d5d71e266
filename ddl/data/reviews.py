"""Film reviews and whether they praise: IMDB's, or the rated sentences that stand in for them."""

from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from ddl.data import archives
from ddl.data.files import imdb, reviews
from ddl.data.integrity import Damaged
from ddl.data.sources import FileItem

NEUTRAL = 0.5
"""Sentences whose mean rating, of -4 to 4, lies within this of 0 are neither positive nor negative, and left out."""
EVERY = 5
"""Of the sentences every fifth is validated on: their authors part them in no way."""


@dataclass(frozen=True)
class Reviews:
    """Texts, and 1 for each positive one, 0 for each negative."""

    texts: list[str]
    labels: list[int]


@cache
def read_reviews(files: FileItem) -> tuple[Reviews, Reviews]:
    """Training and validation split of `imdb` (the official ones) or `reviews`. Raises Damaged where the form is another."""
    return _archive(files) if files.origin.name == "imdb" else _sentences(files)


def _archive(files: FileItem) -> tuple[Reviews, Reviews]:
    parts = {"train": Reviews([], []), "test": Reviews([], [])}
    found = []
    for name, content in archives.contents(files.folder / imdb.FILE):
        _, *place = PurePosixPath(name).parts
        if len(place) == 3 and place[0] in parts and place[1] in ("neg", "pos"):
            found.append((*place, content.decode("utf-8").replace("<br />", " ")))
    for split, label, _, text in sorted(found):  # not in the archive's order, which is an accident
        parts[split].texts.append(text)
        parts[split].labels.append(int(label == "pos"))
    if not all(part.texts for part in parts.values()):
        raise Damaged(f"{files.folder / imdb.FILE}: holds no reviews as train/pos/*.txt and the like.")
    return parts["train"], parts["test"]


def _sentences(files: FileItem) -> tuple[Reviews, Reviews]:
    path = files.folder / reviews.FILE
    train, val = Reviews([], []), Reviews([], [])
    seen: set[str] = set()
    for line in path.read_text("latin-1").split("\n"):
        if not line.strip():
            continue
        try:
            number, rating, text = line.split("\t")
            mean, part = float(rating), val if int(number) % EVERY == 0 else train
        except ValueError as error:
            raise Damaged(f"{path}: {line[:60]!r} is no number, rating and sentence ({error}).") from error
        text = text.strip()
        if abs(mean) < NEUTRAL or text in seen:
            continue
        seen.add(text)
        part.texts.append(text)
        part.labels.append(int(mean > 0))
    return train, val
