"""Bundled image samples, packed as sheets: many small images on one large image in a lossless format.

One large image compresses better than many small ones, and is one file in the repository. The classes of a sheet take turns:
the image at position i has the label i mod the number of classes. So the order encodes the labels, and the first n images of
a sheet are as balanced as possible.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ddl.data.splits import Split, fingerprint

FOLDER = Path(__file__).parent / "samples"
MANIFEST = FOLDER / "manifest.json"
"""The sha256 of each sheet's examples, by file name. It verifies the examples, independent of the compression."""
RESTORE = "Restore it from the repository, or install the package again."


def read_bundled_sheets(name: str, classes: int, shape: tuple[int, int, int]) -> tuple[Split, Split]:
    """The bundled training and validation examples of the data set `name`. Raises ValueError if they are damaged."""
    sha256 = json.loads(MANIFEST.read_text())
    files = [f"{name}-{split}.webp" for split in ("train", "val")]
    train, val = (read_sheet(FOLDER / file, classes, shape, sha256[file]) for file in files)
    return train, val


def in_turn(split: Split, classes: int, per_class: int) -> Split:
    """The first `per_class` examples of each class, with the classes taking turns."""
    columns = [torch.nonzero(split.targets == c).flatten()[:per_class] for c in range(classes)]
    assert all(len(column) == per_class for column in columns), "too few examples of a class"
    return Split(*split.batch(torch.stack(columns, dim=1).flatten()))


def draw_sheet(inputs: Tensor, columns: int) -> Image.Image:
    """`inputs` (uint8 [n, 1 or 3, h, w]) row by row on one RGB image. `n` must be a multiple of `columns`."""
    n, channels, height, width = inputs.shape
    grid = inputs.view(n // columns, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = grid.reshape(n // columns * height, columns * width, channels).expand(-1, -1, 3)
    return Image.fromarray(pixels.numpy())


def read_sheet(path: Path, classes: int, shape: tuple[int, int, int], sha256: str) -> Split:
    """The examples of the sheet at `path`, each of `shape` (channels, height, width).

    Raises ValueError if the file cannot be decoded or the fingerprint of its examples is not `sha256`.
    """
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{path}: the bundled sample cannot be decoded ({error}). {RESTORE}") from error
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    grid = pixels[: rows * height, : columns * width].view(rows, height, columns, width, 3)
    inputs = grid.permute(0, 2, 4, 1, 3)[:, :, :channels].reshape(rows * columns, channels, height, width)
    split = Split(inputs, torch.arange(rows * columns) % classes)
    actual = split_fingerprint(split)
    if actual != sha256:
        raise ValueError(f"{path}: the bundled sample has sha256 {actual}, not {sha256}. {RESTORE}")
    return split


def split_fingerprint(split: Split) -> str:
    """The `fingerprint` of a split's tensors."""
    return fingerprint(vars(split))
