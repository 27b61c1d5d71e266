"""ImageNet weights of EfficientNet-B0 (Tan and Le, 2019), as torchvision publishes them (`IMAGENET1K_V1`): a PyTorch file, to be
read with `weights_only=True`. Its name holds the first eight digits of its sha256. Nothing stands in for it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ddl.data.integrity import Unavailable
from ddl.data.recipe import Archive

FILE = "efficientnet_b0_rwightman-7f5810bc.pth"
CONTENT = {FILE: "sha256:7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934"}
ARCHIVES = (Archive(FILE, CONTENT[FILE], (f"https://download.pytorch.org/models/{FILE}",)),)
SAMPLE: dict[str, str] = {}
FALLBACK = ""


def unpack(archives: Sequence[Path], content: Path) -> None:
    shutil.copyfile(archives[0], content / FILE)


def from_package(work: Path, content: Path) -> str:
    raise Unavailable(f"{FILE}: no package has it")


def sample(into: Path) -> None:
    raise AssertionError("nothing stands in for weights")
