"""Figures and texts that trials left, as a page can hold them: grouped, bounded in bytes, and safe to show."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ddl.reports.artefacts import Image, Text
from ddl.reports.wording import count, ranges
from ddl.units import size

IMAGE_BYTES = 500_000
IMAGES_BYTES = 4_500_000
"""Larger images, and all once these bytes are spent, are named instead of shown: the page must stay fit to send."""

TEXT_CHARACTERS = 20_000
TEXTS_CHARACTERS = 1_000_000
"""The same for texts."""

OPENING = 600
"""Characters of a text that are read without asking for more."""

_WHOLE = {".png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"), ".svg": (b"<", b"</svg>")}
_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass
class EmbeddingBudget:
    """What is left of the page's bytes and characters; several runs share it evenly."""

    images: int = IMAGES_BYTES
    texts: int = TEXTS_CHARACTERS


@dataclass(frozen=True)
class EmbeddedImage:
    """An image with its bytes as a data URI, which is only ever put into an <img>, where no script runs; or why there is none."""

    image: Image
    uri: str
    problem: str


@dataclass(frozen=True)
class EmbeddedText:
    """A text: how it begins, and `whole` where that is not all; `problem` where there is none or a part is missing."""

    text: Text
    opening: str
    whole: str
    problem: str


@dataclass
class ImageGroup:
    """What has the same name in every trial: by seed, then a list a trial, in the order of numbers. `left_out` says what is not here."""

    name: str
    numbered: bool
    seeds: dict[int, list[list[EmbeddedImage]]] = field(default_factory=dict)
    left_out: str = ""


@dataclass
class TextGroup:
    """As `ImageGroup`, of texts."""

    name: str
    seeds: dict[int, list[list[EmbeddedText]]] = field(default_factory=dict)
    left_out: str = ""


def embed_images(found: Sequence[Image], budget: EmbeddingBudget) -> list[ImageGroup]:
    """The images in groups. The budget is spent on the first seed of every group before the second of any."""
    shown: dict[Image, EmbeddedImage] = {}
    for image in sorted(found, key=lambda image: image.seed):
        content, problem = _read(image, budget.images)
        if content is not None:
            budget.images -= len(content)
            uri = f"data:{_TYPES[image.path.suffix]};base64,{base64.b64encode(content).decode()}" if content else ""
            shown[image] = EmbeddedImage(image, uri, problem)
    groups = []
    for name, members in groupby(found, key=lambda image: image.group):
        mine = list(members)
        group = ImageGroup(name, any(image.number >= 0 for image in mine), left_out=_left_out(mine, shown, "image", "figures"))
        for (seed, _), frames in groupby((i for i in mine if i in shown), key=lambda image: (image.seed, image.trial_id)):
            group.seeds.setdefault(seed, []).append([shown[image] for image in frames])
        groups.append(group)
    return groups


def embed_texts(found: Sequence[Text], budget: EmbeddingBudget) -> list[TextGroup]:
    """The texts in groups, as `embed_images`."""
    told: dict[Text, EmbeddedText] = {}
    for text in sorted(found, key=lambda text: (text.seed, -text.number)):  # the last one of a trial says most
        if budget.texts > 0:
            told[text] = _tell(text)
            budget.texts -= len(told[text].opening) + len(told[text].whole)
    groups = []
    for name, members in groupby(found, key=lambda text: text.group):
        mine = list(members)
        group = TextGroup(name, left_out=_left_out(mine, told, "text", "samples"))
        for (seed, _), passages in groupby((t for t in mine if t in told), key=lambda text: (text.seed, text.trial_id)):
            group.seeds.setdefault(seed, []).append([told[text] for text in passages])
        groups.append(group)
    return groups


def _read(image: Image, left: int) -> tuple[bytes | None, str]:
    """The file's bytes, b"" and why not, or None where it is longer than what is `left`.

    While trials run, a file may be half there or gone again.
    """
    try:
        if (long := image.path.stat().st_size) > IMAGE_BYTES:
            return b"", f"too large to include ({size(long)})"
        if long > left:
            return None, ""
        content = image.path.read_bytes()
    except OSError as error:
        return b"", f"cannot be read ({error.strerror})"
    start, end = _WHOLE[image.path.suffix]
    if not (content.lstrip(b"\xef\xbb\xbf \r\n").startswith(start) and content.rstrip().endswith(end)):
        return b"", f"is not a whole {image.path.suffix[1:].upper()} file"
    return content, ""


def _tell(text: Text) -> EmbeddedText:
    try:
        with text.path.open(encoding="utf-8", errors="replace") as file:
            content = file.read(TEXT_CHARACTERS + 1)
    except OSError as error:
        return EmbeddedText(text, "", "", f"cannot be read ({error.strerror})")
    cut = len(content) > TEXT_CHARACTERS
    problem = f"cut after {TEXT_CHARACTERS:,} characters" if cut else ""
    content = content[:TEXT_CHARACTERS]
    return EmbeddedText(text, content[:OPENING], content if len(content) > OPENING else "", problem)


def _left_out(found: Sequence[Image | Text], kept: "dict[Image, EmbeddedImage] | dict[Text, EmbeddedText]", noun: str, room: str) -> str:
    missing = [item for item in found if item not in kept]
    if not missing:
        return ""
    seeds = sorted({item.seed for item in missing})
    return (
        f"Left out, so that this page stays fit to send: {count(len(missing), noun)} of seed{'s' if len(seeds) > 1 else ''} "
        f"{ranges(seeds)}. They are in trials/…/{room} of the run's folder."
    )
