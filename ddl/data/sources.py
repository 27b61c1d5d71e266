"""Data sets and files by name, and the order in which their sources are asked.

Prepared cache, the user's mirror, the official host, a package client, and last what the package itself holds, which is
announced. `load_data_set` gives images as tensors, `load_files` what stays files: texts, vectors, weights.
"""

import importlib
import logging
import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import torch

from ddl.data import files as file_items
from ddl.data import official, sets, store
from ddl.data.integrity import Damaged, Unavailable, fingerprint_of_files, set_aside, verify
from ddl.data.recipe import FileRecipe, Official, Recipe
from ddl.data.splits import DataSet, Origin, Split, fingerprint, to_tensors
from ddl.hints import did_you_mean

CONTENTS = ("full", "sample")
VERDICT_LASTS_S = 600
"""For how long a process that loads believes another one that no source could be reached."""

RESTORE = "Restore them from the repository, or install the package again."

log = logging.getLogger(__name__)
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class FileItem:
    """An item's files in `folder`, their checksums proven. `origin.name` is the item that they are, which may be a stand-in's."""

    folder: Path
    origin: Origin


def data_set_names() -> tuple[str, ...]:
    """Every data set there is."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(sets.__path__)))


def file_names() -> tuple[str, ...]:
    """Every item there is that stays files."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(file_items.__path__)))


def check_name(name: str, content: str) -> None:
    """Raises ValueError where there is no such data set or item, or no such content of it. Touches no data."""
    known = (*data_set_names(), *file_names())
    if name not in known:
        raise ValueError(f"data set {name!r}: unknown.{did_you_mean(str(name), known)} There are: {', '.join(known)}.")
    if content not in CONTENTS:
        raise ValueError(f"content {content!r} of data set {name}: unknown. There are: {', '.join(CONTENTS)}.")


@cache
def load_data_set(name: str, content: str) -> DataSet:
    """The data set, `content` "full" or "sample"; prepared first where it is not. Later calls give the same tensors.

    "full" gives the sample where no source has the whole data; its origin then says so (`fallback_for`). Of a data set without a
    sample, another one stands in: the origin is then that one's, with this one's name as `fallback_for`.
    Raises ValueError for an unknown name or content, and where the cache folder cannot be used.
    """
    check_name(name, content)
    return _load(name, content, earliest=time.time() - VERDICT_LASTS_S)


@cache
def load_files(name: str, content: str = "full") -> FileItem:
    """The item's files, `content` "full" or "sample"; prepared first where they are not.

    "full" gives what stands in, the item's sample or another item, where no source has the official files; the origin then
    says so. Of an item without a sample of its own "sample" is its stand-in. Raises ValueError like `load_data_set`, and where
    nothing stands in.
    """
    check_name(name, content)
    return _files(name, content, earliest=time.time() - VERDICT_LASTS_S)


def prepare_data(name: str, content: str) -> Origin:
    """Make sure that the data set or item is there, and say where it came from. Unlike `load_data_set`, always asks the sources anew.

    Any number of processes may do so at once. Raises ValueError like `load_data_set`.
    """
    check_name(name, content)
    if name in file_names():
        return _files(name, content, earliest=time.time()).origin
    return _load(name, content, earliest=time.time()).origin


def _load(name: str, content: str, earliest: float) -> DataSet:
    """`earliest` is the Unix time from which on another process's verdict that no source has the data is believed."""
    recipe = cast(Recipe, importlib.import_module(f"{sets.__name__}.{name}"))
    fallback_for = ""
    if content == "full":
        try:
            origin, train, val = _prepared(
                name,
                recipe,
                earliest,
                lambda: store.read_data_set(name),
                lambda source, place: store.write_data_set(name, source, *_decode(recipe, place)),
                store.FILE,
            )
            return DataSet(origin, train, val, recipe.CLASSES, recipe.MEAN, recipe.STD)
        except Unavailable as error:
            fallback_for = f"the whole of {name}"
            _announce(name, f"{recipe.FALLBACK.upper()} STANDS" if recipe.FALLBACK else "THE BUNDLED SAMPLE STANDS", str(error))
    if recipe.FALLBACK:
        other = _load(recipe.FALLBACK, content, earliest)
        return replace(other, origin=replace(other.origin, fallback_for=name))
    train, val = recipe.sample()
    origin = Origin(name, "bundled sample", complete=False, fallback_for=fallback_for, sha256=fingerprint(to_tensors(train, val)))
    return DataSet(origin, train, val, recipe.CLASSES, recipe.MEAN, recipe.STD)


def _files(name: str, content: str, earliest: float) -> FileItem:
    recipe = cast(FileRecipe, importlib.import_module(f"{file_items.__name__}.{name}"))
    if recipe.SAMPLE == recipe.CONTENT:
        return _sample(name, recipe, "")
    fallback_for = ""
    if content == "full":
        try:
            return _official_files(name, recipe, earliest)
        except Unavailable as error:
            if not recipe.SAMPLE and not recipe.FALLBACK:
                raise ValueError(f"{name}: cannot be had, and nothing stands in for it. {error}. {_mend()}") from error
            fallback_for = f"the whole of {name}"
            standing = "THE BUNDLED SAMPLE STANDS" if recipe.SAMPLE else f"{recipe.FALLBACK.upper()} STAND"
            _announce(name, standing, str(error))
    if recipe.SAMPLE:
        return _sample(name, recipe, fallback_for)
    if not recipe.FALLBACK:
        raise ValueError(f"{name}: the package holds no sample of it. Ask for the full content.")
    other = _files(recipe.FALLBACK, content, earliest)
    return replace(other, origin=replace(other.origin, fallback_for=name))


def _official_files(name: str, recipe: FileRecipe, earliest: float) -> FileItem:
    def keep(source: str, place: Path) -> None:
        origin = Origin(name, source, complete=True, fallback_for="", sha256=fingerprint_of_files(place, recipe.CONTENT))
        store.write_files(name, "full", origin, place, recipe.CONTENT)

    origin, folder = _prepared(name, recipe, earliest, lambda: store.read_files(name, "full", recipe.CONTENT), keep, store.FILES["full"])
    return FileItem(folder, origin)


def _sample(name: str, recipe: FileRecipe, fallback_for: str) -> FileItem:
    """What is bundled, unpacked once into the cache. Where that is the whole of an item, it is no sample."""
    whole = recipe.SAMPLE == recipe.CONTENT

    def read() -> tuple[Origin, Path]:
        origin, folder = store.read_files(name, "sample", recipe.SAMPLE)
        for file, checksum in recipe.SAMPLE.items():  # another version of the package may bundle another sample
            verify(folder / file, checksum)
        return origin, folder

    def unpack(work: Path) -> None:
        recipe.sample(work)
        try:
            for file, checksum in recipe.SAMPLE.items():
                verify(work / file, checksum)
        except Damaged as error:
            raise ValueError(f"{name}: the bundled files are damaged ({error}). {RESTORE}") from error
        source = "bundled" if whole else "bundled sample"
        origin = Origin(name, source, complete=whole, fallback_for="", sha256=fingerprint_of_files(work, recipe.SAMPLE))
        store.write_files(name, "sample", origin, work, recipe.SAMPLE)

    origin, folder = _cached(name, read, unpack, store.FILES["sample"])
    return FileItem(folder, replace(origin, fallback_for=fallback_for))


@cache  # a process says it once
def _announce(name: str, what: str, reason: str) -> None:
    log.warning("%s: the whole data cannot be had, so %s IN FOR IT. %s. %s", name, what, reason, _mend())


def _mend() -> str:
    return f"Set {official.MIRROR} to a folder or URL with the official files."


def _prepared(name: str, recipe: Official, earliest: float, read: Callable[[], Kept], keep: Callable[[str, Path], None], kept: str) -> Kept:
    """Like `_cached`, from the official files, which `keep` takes with their source in words. Raises Unavailable."""

    def make(work: Path) -> None:
        if reason := store.unavailable_since(name, earliest):
            raise Unavailable(reason)
        try:
            official.fetch_official(name, recipe, work, keep)
        except Unavailable as error:
            store.remember_unavailable(name, str(error))
            raise

    return _cached(name, read, make, kept)


def _cached(name: str, read: Callable[[], Kept], make: Callable[[Path], None], kept: str) -> Kept:
    """What `read` finds in the cache, as the file or folder `kept`; where it is not there, `make` makes it first, in a workspace.

    Raises ValueError where the cache cannot be used.
    """
    try:
        try:
            return read()
        except (FileNotFoundError, Damaged):
            pass  # whoever holds the lock looks again, and mends it
        with store.lock(name):
            try:
                return read()
            except FileNotFoundError:
                pass
            except Damaged as error:
                log.warning("%s It is set aside as %s and prepared again.", error, set_aside(store.cache_folder(name) / kept))
            with store.workspace(name) as work:
                make(work)
            return read()
    except OSError as error:
        raise ValueError(
            f"{store.cache_folder(name)}: {name} cannot be prepared there ({error}). Make room, or set DDL_CACHE to another folder."
        ) from error


def _decode(recipe: Recipe, content: Path) -> tuple[Split, Split]:
    """Raises Damaged where the tensors are not what `Split` and the recipe promise."""
    splits = recipe.decode(content)
    for split in splits:
        if split.inputs.dtype != torch.uint8 or split.inputs.shape != (len(split), *recipe.SHAPE):
            raise Damaged(f"inputs are {split.inputs.dtype} {list(split.inputs.shape)}, not uint8 {['n', *recipe.SHAPE]}.")
        if split.targets.dtype != torch.int64 or split.targets.min() < 0 or split.targets.max() >= len(recipe.CLASSES):
            raise Damaged(f"targets reach {split.targets.max()}, but there are {len(recipe.CLASSES)} classes.")
    return splits
