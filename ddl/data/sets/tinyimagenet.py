"""Tiny ImageNet (Stanford's CS231n course; from ILSVRC, Russakovsky et al. 2015): 100,000 + 10,000 photographs, 64 x 64, 200 classes.

The official archive itself is the one official file: its authors publish no checksum, and the MD5 is the one that public
loaders agree on (Avalanche's `benchmarks/datasets/tiny_imagenet`, pytorch-fgvc-dataset's `tiny_imagenet.py`). CIFAR-10
stands in where it cannot be had. Of the official test split the classes are not published, so it is not read.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ddl.data.archives import extract
from ddl.data.integrity import Damaged, Unavailable
from ddl.data.recipe import Archive
from ddl.data.splits import Split

CLASSES = tuple(f"class {number}" for number in range(200))
"""By their place among WordNet's numbers in the archive's `wnids.txt`, ascending; its `words.txt` says them in words."""
SHAPE = (3, 64, 64)
MEAN = (0.4802, 0.4481, 0.3975)
STD = (0.2770, 0.2691, 0.2821)
FALLBACK = "cifar10"

FILE = "tiny-imagenet-200.zip"
CONTENT = {FILE: "md5:90528d7ca1a48142e341f4ef8d21d0de"}
ARCHIVES = (Archive(FILE, CONTENT[FILE], (f"http://cs231n.stanford.edu/{FILE}", f"https://cs231n.stanford.edu/{FILE}")),)
ROOT = "tiny-imagenet-200"


def unpack(archives: Sequence[Path], content: Path) -> None:
    shutil.copyfile(archives[0], content / FILE)


def from_package(work: Path, content: Path) -> str:
    raise Unavailable(f"{FILE}: no package has it")


def decode(content: Path) -> tuple[Split, Split]:
    extract(content / FILE, content / "unpacked")
    root = content / "unpacked" / ROOT
    try:
        wnids = sorted(set((root / "wnids.txt").read_text(encoding="ascii").split()))
        annotations = (root / "val" / "val_annotations.txt").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Damaged(f"{content / FILE}: not laid out as Tiny ImageNet ({error}).") from error
    if len(wnids) != len(CLASSES) or not all(re.fullmatch(r"n\d{8}", wnid) for wnid in wnids):
        raise Damaged(f"{content / FILE}: wnids.txt does not name {len(CLASSES)} classes.")
    # Class by class in turn, so that the first n are balanced.
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
        raise Damaged("Tiny ImageNet: a split without an image.")
    pixels = np.empty((len(examples), *SHAPE), dtype=np.uint8)
    for target, (path, _) in zip(pixels, examples, strict=True):
        try:
            with Image.open(path) as image:
                if image.size != (64, 64):
                    raise Damaged(f"{path}: {image.size[0]} x {image.size[1]} pixels, not 64 x 64.")
                picture = np.asarray(image.convert("RGB"))  # some are grey
        except (OSError, UnidentifiedImageError) as error:
            raise Damaged(f"{path}: cannot be decoded ({error}).") from error
        target[:] = picture.transpose(2, 0, 1)
    return Split(torch.from_numpy(pixels), torch.tensor([c for _, c in examples]))


def sample() -> tuple[Split, Split]:
    raise AssertionError("tinyimagenet has no sample: cifar10 stands in")
