"""Film reviews labelled positive or negative: IMDB's, or the rated sentences that are its fallback."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from ddl.data.archives import read_archive
from ddl.data.integrity import Damaged
from ddl.data.sources import FileItem

NEUTRAL = 0.5
"""Sentences with a mean rating (-4 to 4) closer to 0 than this are neither positive nor negative, and are left out."""
EVERY = 5
"""Every fifth sentence is for validation: the authors define no splits."""


@dataclass(frozen=True)
class Reviews:
    """Texts and their labels, 1 for positive and 0 for negative."""

    texts: list[str]
    labels: list[int]


@cache
def read_reviews(item: FileItem) -> tuple[Reviews, Reviews]:
    """Training and validation split of `imdb` (the official ones) or `reviews`. Raises Damaged if the format is wrong."""
    return _read_imdb(item.path) if item.origin.name == "imdb" else _read_sentences(item.path)


def _read_imdb(path: Path) -> tuple[Reviews, Reviews]:
    splits = {"train": Reviews([], []), "test": Reviews([], [])}
    members = []
    for name, content in read_archive(path):
        _, *place = PurePosixPath(name).parts
        if len(place) == 3 and place[0] in splits and place[1] in ("neg", "pos"):
            members.append((*place, content.decode("utf-8").replace("<br />", " ")))
    for split, label, _, text in sorted(members):  # the order in the archive is arbitrary
        splits[split].texts.append(text)
        splits[split].labels.append(int(label == "pos"))
    if not all(split.texts for split in splits.values()):
        raise Damaged(f"{path}: contains no reviews in train/pos/*.txt and so on.")
    return splits["train"], splits["test"]


def _read_sentences(path: Path) -> tuple[Reviews, Reviews]:
    train, val = Reviews([], []), Reviews([], [])
    seen: set[str] = set()
    for line in path.read_text("latin-1").split("\n"):
        if not line.strip():
            continue
        try:
            number, rating, text = line.split("\t")
            mean, split = float(rating), val if int(number) % EVERY == 0 else train
        except ValueError as error:
            raise Damaged(f"{path}: {line[:60]!r} is not a number, rating and sentence ({error}).") from error
        text = text.strip()
        if abs(mean) < NEUTRAL or text in seen:
            continue
        seen.add(text)
        split.texts.append(text)
        split.labels.append(int(mean > 0))
    return train, val
