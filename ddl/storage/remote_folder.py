"""A folder at a URL."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddl.storage import urls


class Unreachable(Exception):
    """A request to a store failed; the message has the URL and the error of the store's client."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at a URL. File names are relative to it. Every method raises Unreachable if the store fails."""

    url: str

    def upload(self, source: Path, name: str) -> None:
        """Upload a local file; the remote file never has partial content."""
        from fsspec.implementations.local import LocalFileSystem

        with self._filesystem() as (filesystem, root):
            target = f"{root}/{name}"
            if isinstance(filesystem, LocalFileSystem):
                filesystem.makedirs(os.path.dirname(target), exist_ok=True)
                filesystem.put_file(str(source), f"{target}.part")
                os.replace(f"{target}.part", target)
            else:
                filesystem.put_file(str(source), target)

    def download(self, name: str, target: Path) -> None:
        """Download a file to `target`."""
        with self._filesystem() as (filesystem, root):
            filesystem.get_file(f"{root}/{name}", str(target))

    def read(self, name: str) -> bytes | None:
        """Content of a small file, or None if it does not exist."""
        with self._filesystem() as (filesystem, root):
            try:
                return bytes(filesystem.cat_file(f"{root}/{name}"))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Create or replace a small file."""
        with tempfile.NamedTemporaryFile() as draft:
            draft.write(content)
            draft.flush()
            self.upload(Path(draft.name), name)

    def names(self) -> list[str]:
        """Names of all files below the folder."""
        with self._filesystem() as (filesystem, root):
            try:
                return [name.removeprefix(root).lstrip("/") for name in filesystem.find(root)]
            except FileNotFoundError:
                return []

    def remove(self, name: str) -> None:
        """Remove a file or a folder if it exists."""
        with self._filesystem() as (filesystem, root), contextlib.suppress(FileNotFoundError):
            filesystem.rm(f"{root}/{name}", recursive=True)

    @contextlib.contextmanager
    def _filesystem(self) -> Iterator[tuple[Any, str]]:
        try:
            yield urls.filesystem(self.url)
        except Exception as error:
            # Each store's client raises its own errors, and none of them may end a trial.
            raise Unreachable(f"{self.url}: {type(error).__name__}: {error}") from error
