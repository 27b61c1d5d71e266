"""Many small images on one large one: a lossless codec then finds what they share, and a repository holds one file.

A sheet's images are class by class in turn: the image at position i is of class i mod the number of classes, so the
order carries the targets, and the first n images of a sheet are as balanced as n images can be.
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
"""The sha256 of each sheet's examples, by file name: a sheet is checked by what it holds, not by how it is packed."""


def read_bundled_sheets(name: str, classes: int, shape: tuple[int, int, int]) -> tuple[Split, Split]:
    """The bundled training and validation examples of the data set `name`. Raises ValueError where they are damaged."""
    sha256 = json.loads(MANIFEST.read_text())
    files = [f"{name}-{split}.webp" for split in ("train", "val")]
    train, val = (read_sheet(FOLDER / file, classes, shape, sha256[file]) for file in files)
    return train, val


def in_turn(split: Split, classes: int, per_class: int) -> Split:
    """The first `per_class` examples of each class, class by class in turn."""
    columns = [torch.nonzero(split.targets == c).flatten()[:per_class] for c in range(classes)]
    assert all(len(column) == per_class for column in columns), "too few examples of a class"
    chosen = torch.stack(columns, dim=1).flatten()
    return Split(split.inputs[chosen], split.targets[chosen])


def draw_sheet(inputs: Tensor, columns: int) -> Image.Image:
    """`inputs` (uint8 [n, 1 or 3, h, w]) row by row on one RGB image. `n` must be a multiple of `columns`."""
    n, channels, height, width = inputs.shape
    grid = inputs.view(n // columns, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = grid.reshape(n // columns * height, columns * width, channels).expand(-1, -1, 3)
    return Image.fromarray(pixels.numpy())


def read_sheet(path: Path, classes: int, shape: tuple[int, int, int], sha256: str) -> Split:
    """The examples of the sheet at `path`, each of `shape` (channels, height, width).

    Raises ValueError where the file cannot be decoded or its examples' fingerprint is not `sha256`.
    """
    mend = "Restore it from the repository, or install the package again."
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{path}: the bundled sample cannot be decoded ({error}). {mend}") from error
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    grid = pixels[: rows * height, : columns * width].view(rows, height, columns, width, 3)
    inputs = grid.permute(0, 2, 4, 1, 3)[:, :, :channels].reshape(rows * columns, channels, height, width)
    split = Split(inputs, torch.arange(rows * columns) % classes)
    found = split_fingerprint(split)
    if found != sha256:
        raise ValueError(f"{path}: the bundled sample has sha256 {found}, not {sha256}. {mend}")
    return split


def split_fingerprint(split: Split) -> str:
    return fingerprint({"inputs": split.inputs, "targets": split.targets})
