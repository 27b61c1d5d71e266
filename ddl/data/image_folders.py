"""Decodes a data set of the user's own images into the cache once, and loads it from there.

The cache's key is the list of files with their sizes and times of the last change, as `make` and `git` recognise changed files:
reading every photograph to compare its content would take longer than training on the decoded ones. The recorded sha256 is that of the
decoded pixels, so it is equal for equal images on every machine.
"""

import hashlib
import json
import logging
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors import SafetensorError
from torch import Tensor

from ddl import units
from ddl.data import store
from ddl.data.cache import cache_folder
from ddl.data.image_listing import ImageFile, ImageFolder, list_images, some
from ddl.data.integrity import Damaged
from ddl.data.shapes import DEFAULT_SIZE
from ddl.data.splits import DataSet, Origin, Split, fingerprint, from_tensors, to_tensors

FORMATS = ("PNG", "JPEG", "WEBP")
"""Formats that Pillow may decode, whatever a file's ending."""
VERSION = 1
"""Version of the rules by which images are decoded. Increase it to decode all folders again."""
FILE = "images.safetensors"
CLASSES_SHOWN = 10
"""Classes that a report names."""
BROKEN_SHOWN = 50
"""Broken images that an error message names."""
CHUNK = 1024
"""Images whose pixels are summed at once."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PixelStatistics:
    """Statistics of a decoded data set: `mean` and `std` of the training images per channel, as in `DataSet`, and the sides of the
    original images in pixels, each as (smallest, largest)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    widths: tuple[int, int]
    heights: tuple[int, int]


def load_image_folder(path: str, size: int) -> DataSet:
    """The data set in the folder `path` as images of `size` x `size` pixels, decoded first if needed.

    The shorter side of an image is resized to `size`, bilinearly and with antialiasing, and the longer side is cropped at both ends.
    Transparent pixels become white, and a photograph is turned as its camera noted. Images have one channel if all files are stored as
    grey ones, else three. Raises ValueError with what is wrong with the folder, and Damaged with the images that cannot be decoded.
    """
    folder = list_images(path)
    origin, statistics, train, val = _load(folder, size)
    return DataSet(origin, train, val, folder.classes, statistics.mean, statistics.std)


def describe_image_folder(path: str) -> Iterator[str]:
    """Lines on the classes, splits and images of a folder, which is decoded at the default size. Raises like `load_image_folder`."""
    folder = list_images(path)
    made = "from train/ and val/" if folder.separate else "a fifth of each class is used for validation"
    yield f"{path}: {len(folder.classes)} classes, {len(folder.train):,} training and {len(folder.val):,} validation images, {made}"
    counts = [np.bincount([image.label for image in part]).tolist() for part in (folder.train, folder.val)]
    width = max(map(len, folder.classes))
    for name, train, val in zip(folder.classes, *counts, strict=True):
        yield f"  {name:{width}}  {train:,} train, {val:,} val"
    if folder.ignored:
        yield f"  not read: {some(folder.ignored)}"
    _, statistics, _, _ = _load(folder, DEFAULT_SIZE)
    (narrowest, widest), (lowest, highest) = statistics.widths, statistics.heights
    kind = "grey" if len(statistics.mean) == 1 else "colour"
    yield f"  {kind} images, {narrowest:,} to {widest:,} pixels wide and {lowest:,} to {highest:,} high"
    yield f"  decoded to {DEFAULT_SIZE} x {DEFAULT_SIZE} pixels in {cache_folder(_name(folder, DEFAULT_SIZE))}"
    yield "  a sweep with images of another size decodes them again, once, when its first trial starts"


@lru_cache(maxsize=4)  # the trials of a process share the tensors
def _load(folder: ImageFolder, size: int) -> tuple[Origin, PixelStatistics, Split, Split]:
    name = _name(folder, size)

    def make(work: Path) -> None:
        statistics, tensors = _decode_all(folder, size)
        about = {"statistics": json.dumps(asdict(statistics)), "sha256": fingerprint(tensors)}
        store.write_tensors(name, FILE, tensors, about)

    statistics, tensors, sha256 = store.read_or_make(name, FILE, lambda: _read(name), make)
    classes = ", ".join(folder.classes[:CLASSES_SHOWN])
    more = f" and {len(folder.classes) - CLASSES_SHOWN} more" if len(folder.classes) > CLASSES_SHOWN else ""
    ignored = f"; not read: {some(folder.ignored)}" if folder.ignored else ""
    source = f"image folder with {len(folder.classes)} classes: {classes}{more}{ignored}"
    origin = Origin(Path(folder.root).name, source, complete=True, fallback_for="", sha256=sha256)
    return origin, statistics, *from_tensors(tensors)


def _name(folder: ImageFolder, size: int) -> str:
    """Name of a decoded data set in the cache."""
    files = [[[image.name, image.label, image.bytes, image.changed] for image in part] for part in (folder.train, folder.val)]
    content = json.dumps([VERSION, size, folder.root, files])
    return f"folder/{hashlib.sha256(content.encode()).hexdigest()[:24]}"


def _read(name: str) -> tuple[PixelStatistics, dict[str, Tensor], str]:
    path = cache_folder(name) / FILE
    try:
        tensors, about = store.read_tensors(path)
        statistics = PixelStatistics(**{key: tuple(value) for key, value in json.loads(about["statistics"]).items()})
        sha256 = about["sha256"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path}: the decoded images cannot be read ({error}).") from error
    if fingerprint(tensors) != sha256:
        raise Damaged(f"{path}: the decoded images have another sha256 than {sha256}.")
    return statistics, tensors, sha256


def _decode_all(folder: ImageFolder, size: int) -> tuple[PixelStatistics, dict[str, Tensor]]:
    """Decode all images, in as many threads as the machine has cores."""
    images = [*folder.train, *folder.val]
    pixels = _allocate(folder, len(images), size)
    log.info("%s: decoding %d images to %d x %d pixels.", folder.root, len(images), size, size)

    def decode(index: int) -> tuple[str, bool, tuple[int, int]]:
        return _decode(Path(folder.root), images[index], pixels[index])

    with ThreadPoolExecutor(psutil.cpu_count()) as pool:
        found = list(pool.map(decode, range(len(images))))
    if broken := [problem for problem, _, _ in found if problem]:
        more = f"; and {len(broken) - BROKEN_SHOWN} more" if len(broken) > BROKEN_SHOWN else ""
        raise Damaged(
            f"{folder.root}: {len(broken)} of {len(images)} images cannot be decoded. "
            f"Replace or remove {'; '.join(broken[:BROKEN_SHOWN])}{more}."
        )
    if all(grey for _, grey, _ in found):
        pixels = np.ascontiguousarray(pixels[:, :1])
    inputs, targets = torch.from_numpy(pixels), torch.tensor([image.label for image in images])
    count = len(folder.train)
    train, val = Split(inputs[:count], targets[:count]), Split(inputs[count:], targets[count:])
    widths, heights = zip(*(sides for *_, sides in found), strict=True)
    statistics = PixelStatistics(*_moments(train.inputs), (min(widths), max(widths)), (min(heights), max(heights)))
    return statistics, to_tensors(train, val)


def _allocate(folder: ImageFolder, count: int, size: int) -> np.ndarray:
    """Memory for `count` colour images, uint8 [n, 3, size, size]. Raises ValueError if this machine has too little."""
    needed, available = count * 3 * size * size, psutil.virtual_memory().available
    if needed > available:
        raise ValueError(
            f"{folder.root}: {count:,} images of {size} x {size} pixels take {units.size(needed)}, and {units.size(available)} of memory "
            "are free. Choose a smaller size of the images."
        )
    return np.empty((count, 3, size, size), dtype=np.uint8)


def _decode(root: Path, file: ImageFile, into: np.ndarray) -> tuple[str, bool, tuple[int, int]]:
    """Decode an image into uint8 [3, size, size]. Returns what is wrong with it or "", if it is grey, and its (width, height)."""
    size = into.shape[-1]
    try:
        with Image.open(root / file.name, formats=FORMATS) as image:
            sides, grey = image.size, image.mode in ("1", "L", "LA") or image.mode.startswith("I")
            image.draft(None, (2 * size, 2 * size))  # a large JPEG file is decoded at a fraction of its size, several times as fast
            picture = ImageOps.exif_transpose(image)
            if picture.mode.startswith("I"):  # 16 bits, which `convert` would cut off at 255
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if picture.has_transparency_data:
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            fitted = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    # For a broken file Pillow raises any of these.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = "not a PNG, JPEG or WebP image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        return f"{file.name} ({reason})", False, (0, 0)
    into[:] = np.asarray(fitted).transpose(2, 0, 1)
    return "", grey, sides


def _moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of uint8 images per channel, of pixels in 0..1. Equal pixels count as a deviation of one grey level."""
    total = squares = torch.zeros(images.shape[1], dtype=torch.float64)
    for part in images.split(CHUNK):
        chunk = part.double() / 255
        total, squares = total + chunk.sum((0, 2, 3)), squares + chunk.square().sum((0, 2, 3))
    count = images[:, 0].numel()
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=1 / 255**2).sqrt()
    return tuple(mean.tolist()), tuple(deviation.tolist())
