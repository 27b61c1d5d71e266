"""Tiny ImageNet (Stanford's CS231n course; from ILSVRC, Russakovsky et al. 2015): 100,000 + 10,000 photographs, 64 x 64, 200 classes.

The official content is the official archive itself. Its authors publish no checksum; the MD5 is the one that public loaders
agree on (Avalanche's `benchmarks/datasets/tiny_imagenet`, pytorch-fgvc-dataset's `tiny_imagenet.py`). The fallback data set
is CIFAR-10. The labels of the official test split are not published, so that split is not read.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ddl.data.archives import extract
from ddl.data.integrity import Damaged
from ddl.data.recipe import Archive, DataSetRecipe
from ddl.data.splits import Split

CLASSES = 200
SHAPE = (3, 64, 64)
FILE = "tiny-imagenet-200.zip"
CHECKSUM = "md5:90528d7ca1a48142e341f4ef8d21d0de"


def _unpack(archives: Sequence[Path], content: Path) -> None:
    shutil.copyfile(archives[0], content / FILE)


def _decode(content: Path) -> tuple[Split, Split]:
    extract(content / FILE, content / "unpacked")
    root = content / "unpacked" / "tiny-imagenet-200"
    try:
        wnids = sorted(set((root / "wnids.txt").read_text(encoding="ascii").split()))
        annotations = (root / "val" / "val_annotations.txt").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Damaged(f"{content / FILE}: not the layout of Tiny ImageNet ({error}).") from error
    if len(wnids) != CLASSES or not all(re.fullmatch(r"n\d{8}", wnid) for wnid in wnids):
        raise Damaged(f"{content / FILE}: wnids.txt does not name {CLASSES} classes.")
    # The classes take turns, so that the first n images are balanced.
    turns = [(turn, c, path) for c, wnid in enumerate(wnids) for turn, path in enumerate(_in_order(root / "train" / wnid / "images"))]
    train = [(path, c) for _, c, path in sorted(turns)]
    # A line: file, class, then the corners of a box around the object.
    named = [line.split("\t")[:2] for line in annotations]
    try:
        val = [(root / "val" / "images" / Path(file).name, wnids.index(wnid)) for file, wnid in named]
    except ValueError as error:
        raise Damaged(f"{content / FILE}: val_annotations.txt has a line that names no image and class ({error}).") from error
    return _read(train), _read(val)


def _in_order(folder: Path) -> list[Path]:
    """n01443537_0.JPEG, ..._1.JPEG, ..., ..._10.JPEG."""
    return sorted(folder.glob("*.JPEG"), key=lambda path: (len(path.name), path.name))


def _read(examples: Sequence[tuple[Path, int]]) -> Split:
    if not examples:
        raise Damaged("Tiny ImageNet: a split has no images.")
    inputs = np.empty((len(examples), *SHAPE), dtype=np.uint8)
    for pixels, (path, _) in zip(inputs, examples, strict=True):
        try:
            with Image.open(path) as image:
                if image.size != (64, 64):
                    raise Damaged(f"{path}: {image.size[0]} x {image.size[1]} pixels, not 64 x 64.")
                picture = np.asarray(image.convert("RGB"))  # some are grey
        except (OSError, UnidentifiedImageError) as error:
            raise Damaged(f"{path}: cannot be decoded ({error}).") from error
        pixels[:] = picture.transpose(2, 0, 1)
    return Split(torch.from_numpy(inputs), torch.tensor([label for _, label in examples]))


TINYIMAGENET = DataSetRecipe(
    name="tinyimagenet",
    # A label is the position of its WordNet id in the sorted `wnids.txt` of the archive; `words.txt` describes each id.
    classes=tuple(f"class {number}" for number in range(CLASSES)),
    shape=SHAPE,
    mean=(0.4802, 0.4481, 0.3975),
    std=(0.2770, 0.2691, 0.2821),
    content={FILE: CHECKSUM},
    archives=(Archive(FILE, CHECKSUM, (f"http://cs231n.stanford.edu/{FILE}", f"https://cs231n.stanford.edu/{FILE}"), 384 << 20),),
    unpack=_unpack,
    decode=_decode,
    fallback="cifar10",
)
