"""ImageNet weights of VGG16 (Simonyan and Zisserman, 2014), as torchvision publishes them (`IMAGENET1K_V1`): a PyTorch file, to be
read with `weights_only=True`. Its name holds the first eight digits of its sha256. Nothing stands in for it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ddl.data.integrity import Unavailable
from ddl.data.recipe import Archive

FILE = "vgg16-397923af.pth"
CONTENT = {FILE: "sha256:397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"}
ARCHIVES = (Archive(FILE, CONTENT[FILE], (f"https://download.pytorch.org/models/{FILE}",)),)
SAMPLE: dict[str, str] = {}
FALLBACK = ""


def unpack(archives: Sequence[Path], content: Path) -> None:
    shutil.copyfile(archives[0], content / FILE)


def from_package(work: Path, content: Path) -> str:
    raise Unavailable(f"{FILE}: no package has it")


def sample(into: Path) -> None:
    raise AssertionError("nothing stands in for weights")
