"""Figures and texts of trials embedded in a page: grouped, limited in bytes, and safe to show."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from ddl.reports.artefacts import Artefact, Image, Text
from ddl.reports.wording import ranges
from ddl.units import count, size

IMAGE_BYTES = 500_000
IMAGES_BYTES = 4_500_000
"""Largest image, and total per page. Other images are named instead of shown, so that the page stays small enough to send."""

TEXT_CHARACTERS = 20_000
TEXTS_CHARACTERS = 1_000_000
"""The same for texts, in characters."""

OPENING = 600
"""Characters of a text that are shown before the reader unfolds it."""

_WHOLE = {".png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"), ".svg": (b"<", b"</svg>")}
_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass
class EmbeddingBudget:
    """Bytes of images and characters of texts that a page may still embed. Several runs get equal parts."""

    images: int = IMAGES_BYTES
    texts: int = TEXTS_CHARACTERS


@dataclass(frozen=True)
class EmbeddedImage:
    """An image as a data URI, or the `problem` with it. Only an <img> may show it, because no script runs there."""

    image: Image
    uri: str
    problem: str


@dataclass(frozen=True)
class EmbeddedText:
    """A text: its `opening`, and the `whole` text if it is longer; `problem` if it cannot be read or is cut."""

    text: Text
    opening: str
    whole: str
    problem: str


@dataclass
class EmbeddedGroup:
    """Files of the same name: by seed, one list per trial, in the order of their numbers. `left_out` says which are not embedded."""

    name: str
    numbered: bool
    left_out: str
    seeds: dict[int, list[list[Any]]] = field(default_factory=dict)


def embed_images(found: Sequence[Image], budget: EmbeddingBudget) -> list[EmbeddedGroup]:
    """The images (`EmbeddedImage`) in groups. The budget is spent on the first seed of all groups, then on the second, and so on."""
    embedded = {}
    for image in sorted(found, key=lambda image: image.seed):
        content, problem = _read_image(image, budget.images)
        if content is not None:
            budget.images -= len(content)
            uri = f"data:{_TYPES[image.path.suffix]};base64,{base64.b64encode(content).decode()}" if content else ""
            embedded[image] = EmbeddedImage(image, uri, problem)
    return _grouped(found, embedded, "image", "figures")


def embed_texts(found: Sequence[Text], budget: EmbeddingBudget) -> list[EmbeddedGroup]:
    """The texts (`EmbeddedText`) in groups. Within a seed, the budget is spent on the last text of each trial first."""
    embedded = {}
    for text in sorted(found, key=lambda text: (text.seed, -text.number)):  # the last text of a trial is the most informative
        if budget.texts > 0:
            embedded[text] = _read_text(text)
            budget.texts -= len(embedded[text].opening) + len(embedded[text].whole)
    return _grouped(found, embedded, "text", "samples")


def _grouped(found: Sequence[Artefact], embedded: Mapping[Any, Any], noun: str, subfolder: str) -> list[EmbeddedGroup]:
    groups = []
    for name, members in groupby(found, key=lambda item: item.group):
        items = list(members)
        missing = [item for item in items if item not in embedded]
        group = EmbeddedGroup(name, any(item.number >= 0 for item in items), _left_out(missing, noun, subfolder))
        for (seed, _), in_trial in groupby((i for i in items if i in embedded), key=lambda item: (item.seed, item.trial_id)):
            group.seeds.setdefault(seed, []).append([embedded[item] for item in in_trial])
        groups.append(group)
    return groups


def _read_image(image: Image, left: int) -> tuple[bytes | None, str]:
    """The bytes of the file; b"" and the problem with it; or None if it is larger than `left`.

    While trials run, a file may be incomplete or deleted again.
    """
    try:
        if (length := image.path.stat().st_size) > IMAGE_BYTES:
            return b"", f"too large to include ({size(length)})"
        if length > left:
            return None, ""
        content = image.path.read_bytes()
    except OSError as error:
        return b"", f"cannot be read ({error.strerror})"
    start, end = _WHOLE[image.path.suffix]
    if not (content.lstrip(b"\xef\xbb\xbf \r\n").startswith(start) and content.rstrip().endswith(end)):
        return b"", f"is not a complete {image.path.suffix[1:].upper()} file"
    return content, ""


def _read_text(text: Text) -> EmbeddedText:
    try:
        with text.path.open(encoding="utf-8", errors="replace") as file:
            content = file.read(TEXT_CHARACTERS + 1)
    except OSError as error:
        return EmbeddedText(text, "", "", f"cannot be read ({error.strerror})")
    cut = len(content) > TEXT_CHARACTERS
    problem = f"cut after {TEXT_CHARACTERS:,} characters" if cut else ""
    content = content[:TEXT_CHARACTERS]
    return EmbeddedText(text, content[:OPENING], content if len(content) > OPENING else "", problem)


def _left_out(missing: Sequence[Artefact], noun: str, subfolder: str) -> str:
    if not missing:
        return ""
    seeds = sorted({item.seed for item in missing})
    return (
        f"Left out to limit the size of this page: {count(len(missing), noun)} of seed{'s' if len(seeds) > 1 else ''} "
        f"{ranges(seeds)}. The files are in trials/…/{subfolder} of the run folder."
    )
