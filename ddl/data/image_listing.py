"""The files of a data set of the user's own images: a folder with a folder of images for each class."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddl.data.file_endings import IMAGE_ENDINGS
from ddl.data.splits import held_out

SPLITS = ("train", "val")
CLUTTER = ("thumbs.db", "desktop.ini", "__macosx")
"""Names of files and folders that operating systems add, in lower case. Names that begin with a dot are hidden too."""


@dataclass(frozen=True)
class ImageFile:
    """An image: its name relative to the data set's folder, its class, its size in bytes and the time of its last change in ns."""

    name: str
    label: int
    bytes: int
    changed: int


@dataclass(frozen=True)
class ImageFolder:
    """The files of a data set in the folder `root`. In both splits the classes take turns, so that the first n images are balanced.

    `separate` is True if the user has made the splits, `train/` and `val/`. `ignored` are files and folders that are not read.
    """

    root: str
    separate: bool
    classes: tuple[str, ...]
    train: tuple[ImageFile, ...]
    val: tuple[ImageFile, ...]
    ignored: tuple[str, ...]


def list_images(path: str) -> ImageFolder:
    """The files of the data set in the folder `path`. Raises ValueError with everything that is wrong with its layout."""
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        problem = "is a file. Unpack it, and name the folder" if root.exists() else f"there is no such folder in {Path.cwd()}"
        raise ValueError(f"{path}: {problem}.")
    folders, files = _entries(root)
    splits = [name for name in SPLITS if name in folders and _entries(root / name)[0]]
    if len(splits) == 1:
        (missing,) = set(SPLITS) - set(splits)
        raise ValueError(
            f"{path}: has {splits[0]}/ with class folders, but no {missing}/ with them. Add it, or name {path}/{splits[0]}: a fifth of its "
            "images is then used for validation."
        )
    ignored = [*files, *(f"{name}/" for name in folders if splits and name not in splits)]
    problems: list[str] = []
    parts = {part: _classes(root, f"{part}/", ignored, problems) for part in splits} or {"": _classes(root, "", ignored, problems)}
    classes = sorted({name for part in parts.values() for name in part})
    if not classes:
        count = sum(name.lower().endswith(IMAGE_ENDINGS) for name in files)
        but = f", but {count} images" if count else ""
        raise ValueError(f"{path}: has no class folders{but}. Put the images of each class into a folder of its own: {path}/CLASS/1.jpg.")
    if len(classes) == 1:
        problems.append(f"has only one class, {classes[0]}. Name a folder with a folder of images for each of several classes")
    for part, other in (("train", "val"), ("val", "train")) if splits else ():
        problems += [f"{part}/ has the class {name}, which {other}/ lacks" for name in classes if name not in parts[other]]
    if splits:
        train, val = (
            [image for label, name in enumerate(classes) for image in _files(root, parts[part].get(name, []), label)] for part in SPLITS
        )
    else:
        problems += [
            f"the class {name} has only one image. Add more: one is used for validation"
            for name, found in parts[""].items()
            if len(found) == 1
        ]
        images = [image for label, name in enumerate(classes) for image in _files(root, parts[""][name], label)]
        held = held_out([image.name for image in images], [image.label for image in images])
        train, val = ([image for image, validates in zip(images, held, strict=True) if validates is wanted] for wanted in (False, True))
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}.")
    return ImageFolder(str(root), bool(splits), tuple(classes), _in_turns(train), _in_turns(val), tuple(sorted(ignored)))


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted, without hidden ones."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.lower() not in CLUTTER:
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read ({error.strerror}).") from error
    return sorted(folders), sorted(files)


def _classes(root: Path, part: str, ignored: list[str], problems: list[str]) -> dict[str, list[str]]:
    """Names of the images of each class in `root`/`part`. Adds other files to `ignored`, and empty classes to `problems`."""
    found = {}
    folders, files = _entries(root / part)
    if part:
        ignored += [f"{part}{name}" for name in files]
    for name in folders:
        inner, files = _entries(root / part / name)
        found[name] = [f"{part}{name}/{file}" for file in files if file.lower().endswith(IMAGE_ENDINGS)]
        others = [
            *(f"{part}{name}/{file}" for file in files if not file.lower().endswith(IMAGE_ENDINGS)),
            *(f"{part}{name}/{each}/" for each in inner),
        ]
        ignored += others
        if not found[name]:
            but = f", but {some(others)}" if others else ""
            problems.append(f"the class folder {part}{name}/ has no PNG, JPEG or WebP images{but}")
    return found


def some(names: Sequence[str]) -> str:
    """The first three of several names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _files(root: Path, names: Iterable[str], label: int) -> list[ImageFile]:
    """Images with the state of their files. One that is not there any more, such as a link to nothing, is reported when it is decoded."""
    found = []
    for name in names:
        try:
            state = (root / name).stat()
            found.append(ImageFile(name, label, state.st_size, state.st_mtime_ns))
        except OSError:
            found.append(ImageFile(name, label, 0, 0))
    return found


def _in_turns(images: Iterable[ImageFile]) -> tuple[ImageFile, ...]:
    """The images, the first of each class first."""
    seen: dict[int, int] = {}
    turns = []
    for image in images:
        seen[image.label] = seen.get(image.label, 0) + 1
        turns.append((seen[image.label], image.label, image.name, image))
    return tuple(image for *_, image in sorted(turns))
