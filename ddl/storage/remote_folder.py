"""A folder at a URL."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from ddl.storage import urls


class Unreachable(Exception):
    """The store did not do what it was asked for; the message is its client's."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at a URL. Its methods raise Unreachable, and give or take paths relative to it."""

    url: str

    def put(self, source: Path, name: str) -> None:
        """Copy a file there, whole or not at all."""
        with self._asked() as (filesystem, root):
            target = f"{root}/{name}"
            if isinstance(filesystem, LocalFileSystem):
                filesystem.makedirs(os.path.dirname(target), exist_ok=True)
                filesystem.put_file(str(source), f"{target}.part")
                os.replace(f"{target}.part", target)
            else:
                filesystem.put_file(str(source), target)

    def get(self, name: str, target: Path) -> None:
        with self._asked() as (filesystem, root):
            filesystem.get_file(f"{root}/{name}", str(target))

    def read(self, name: str) -> bytes | None:
        """A small file's content, None where there is none."""
        with self._asked() as (filesystem, root):
            try:
                return bytes(filesystem.cat_file(f"{root}/{name}"))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        with tempfile.NamedTemporaryFile() as draft:
            draft.write(content)
            draft.flush()
            self.put(Path(draft.name), name)

    def names(self) -> list[str]:
        """Every file below it."""
        with self._asked() as (filesystem, root):
            try:
                found = filesystem.find(root)
            except FileNotFoundError:
                return []
            return [name.removeprefix(root).lstrip("/") for name in found]

    def remove(self, name: str) -> None:
        """A file or a folder, where there is one."""
        with self._asked() as (filesystem, root), contextlib.suppress(FileNotFoundError):
            filesystem.rm(f"{root}/{name}", recursive=True)

    @contextlib.contextmanager
    def _asked(self) -> Iterator[tuple[Any, str]]:
        try:
            yield urls.filesystem(self.url)
        except Exception as error:
            # Each store's client has errors of its own, and there is nothing a store could do that should end a trial.
            raise Unreachable(f"{self.url}: {type(error).__name__}: {error}") from error
