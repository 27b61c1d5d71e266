import gc
import gzip
import hashlib
import io
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ddl.data import downloads
from ddl.data.downloads import display_url, download_file
from ddl.data.integrity import Damaged, Unavailable

BODY = random.Random(7).randbytes(200_000)
MAX_BYTES = 1 << 20
CHECKSUM = f"md5:{hashlib.md5(BODY).hexdigest()}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "data.bin"


@pytest.fixture
def url(host) -> str:
    host.files["/data.bin"] = BODY
    return f"{host.url}/data.bin"


def test_a_file_comes_whole_and_only_once(host, url, path):
    download_file(url, path, CHECKSUM, MAX_BYTES)
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert path.read_bytes() == BODY
    assert host.requests == [("/data.bin", None)]
    assert [p.name for p in path.parent.iterdir()] == ["data.bin"]


def test_sha256_is_understood_too(url, path):
    download_file(url, path, f"sha256:{hashlib.sha256(BODY).hexdigest()}", MAX_BYTES)
    assert path.read_bytes() == BODY


def test_an_interrupted_download_is_continued_where_it_ended(host, url, path):
    path.parent.mkdir()
    path.with_name("data.bin.part").write_bytes(BODY[:150_000])
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert path.read_bytes() == BODY
    assert host.requests == [("/data.bin", "bytes=150000-")]


def test_a_connection_that_breaks_twice_is_continued(host, url, path):
    host.cut_after = [70_000, 70_000]
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert path.read_bytes() == BODY
    assert [asked for _, asked in host.requests] == [None, "bytes=70000-", "bytes=140000-"]


def test_a_download_that_gets_nowhere_ends_and_keeps_what_came(host, url, path):
    host.cut_after = [70_000, 0, 0, 0]
    with pytest.raises(Unavailable, match=r"data\.bin: "):
        download_file(url, path, CHECKSUM, MAX_BYTES)
    assert len(host.requests) == 2
    assert path.with_name("data.bin.part").read_bytes() == BODY[:70_000]
    assert not path.exists()


def test_a_host_that_cannot_continue_sends_the_whole_again(host, url, path):
    host.continues = False
    path.parent.mkdir()
    path.with_name("data.bin.part").write_bytes(BODY[:150_000])
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert path.read_bytes() == BODY
    assert len(host.requests) == 1


def test_a_part_that_is_already_whole_is_taken(host, url, path):
    path.parent.mkdir()
    path.with_name("data.bin.part").write_bytes(BODY)
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert path.read_bytes() == BODY
    assert len(host.requests) == 1


def test_a_part_of_another_file_is_set_aside_and_the_whole_fetched(host, url, path, caplog):
    path.parent.mkdir()
    path.with_name("data.bin.part").write_bytes(b"x" * 150_000)
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert path.read_bytes() == BODY
    assert path.with_name("data.bin.part.damaged").exists()
    assert "the resumed download has the wrong checksum" in caplog.text


def test_a_damaged_file_is_set_aside_and_fetched_again(url, path, caplog):
    path.parent.mkdir()
    path.write_bytes(BODY[:-1])
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert path.read_bytes() == BODY
    assert path.with_name("data.bin.damaged").read_bytes() == BODY[:-1]
    assert f"{path}: 199,999 bytes with md5" in caplog.text


def test_other_bytes_are_refused_and_set_aside(host, url, path):
    host.files["/data.bin"] = BODY[:-1] + b"!"
    with pytest.raises(Damaged, match="cut off or altered"):
        download_file(url, path, CHECKSUM, MAX_BYTES)
    assert not path.exists()
    assert path.with_name("data.bin.part.damaged").exists()


@pytest.mark.parametrize(("content_type", "saved"), [("text/html; charset=utf-8", False), ("application/octet-stream", True)])
def test_a_web_page_is_refused_and_not_even_saved_where_the_host_admits_it(host, url, path, content_type, saved):
    host.content_type = content_type
    host.files["/data.bin"] = b"\n<!DOCTYPE html><title>Please log in</title>"
    with pytest.raises(Damaged, match="a web page, not data"):
        download_file(url, path, CHECKSUM, MAX_BYTES)
    assert [p.name for p in path.parent.iterdir()] == (["data.bin.part.damaged"] if saved else [])


def test_a_missing_file_says_so(host, path):
    with pytest.raises(Unavailable, match=r"absent\.bin: HTTP 404"):
        download_file(f"{host.url}/absent.bin", path, CHECKSUM, MAX_BYTES)


def test_nobody_listening(path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match="connection failed or closed"):
        download_file(f"http://127.0.0.1:{port}/data.bin", path, CHECKSUM, MAX_BYTES)


def test_a_silent_host_is_given_up(host, url, path, monkeypatch):
    monkeypatch.setattr(downloads, "READ_TIMEOUT_S", 0.2)
    host.silent.set()
    with pytest.raises(Unavailable, match=r"no data for 0.2 s"):
        download_file(url, path, CHECKSUM, MAX_BYTES)


def test_connecting_takes_five_seconds_at_most(url, path, monkeypatch):
    asked = []
    get = downloads.requests.get
    monkeypatch.setattr(downloads.requests, "get", lambda *args, **kw: asked.append(kw["timeout"]) or get(*args, **kw))
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert asked == [(5, 30)]


@pytest.mark.parametrize("trouble", ["absent", "cut off", "altered", "web page"])
def test_no_password_in_messages(host, url, path, trouble):
    match trouble:
        case "absent":
            url += ".absent"
        case "cut off":
            host.cut_after = [0]
        case "altered":
            host.files["/data.bin?token=hunter2"] = BODY + b"!"
        case "web page":
            host.content_type = "text/html"
    host.files.setdefault("/data.bin?token=hunter2", BODY)
    with pytest.raises((Unavailable, Damaged)) as error:
        download_file(url.replace("//", "//user:hunter2@") + "?token=hunter2", path, CHECKSUM, MAX_BYTES)
    assert "hunter2" not in str(error.value)
    assert "/data.bin" in str(error.value)


def test_a_url_is_shown_without_secrets():
    assert display_url("https://user:hunter2@host:81/a/b?token=hunter2") == "https://host:81/a/b"


def test_a_full_disk_is_no_matter_of_the_source(url, path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        download_file(url, path, CHECKSUM, MAX_BYTES)
    assert not path.exists()


def test_a_bar_is_shown_on_a_terminal(url, path, monkeypatch):
    shown_there = io.StringIO()
    monkeypatch.setattr(downloads, "Console", lambda stderr: Console(file=shown_there, force_terminal=True, width=100))
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert "data.bin" in shown_there.getvalue()
    assert "200.0/200.0 kB" in shown_there.getvalue()


def test_nothing_is_shown_elsewhere(url, path, capsys):
    download_file(url, path, CHECKSUM, MAX_BYTES)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def answering(request) -> Iterator[Callable[..., str]]:
    """Starts a host that answers every request with these bytes, one piece after the other, the last without end. Returns its URL."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(pieces: tuple[bytes, ...]) -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    for piece in pieces:
                        connection.sendall(piece)
                    while pieces[1:] and not ended.wait(0.01):
                        connection.sendall(pieces[-1])
                except OSError:
                    continue

    def start(*pieces: bytes) -> str:
        threading.Thread(target=serve, args=(pieces,), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/data.bin"

    yield start
    ended.set()
    listener.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # requests leaves the socket to the garbage collector
@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: many\r\n\r\nabc",
        OK + b"Content-Length: -5\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 abc\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 500 \x1b[31m\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /data.bin\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n",
    ],
)
def test_a_malformed_answer_is_the_failure_of_that_source(answering, path, answer):
    with pytest.raises(Unavailable) as error:
        download_file(answering(answer), path, CHECKSUM, MAX_BYTES)
    assert str(error.value).startswith("http://127.0.0.1:")
    assert str(error.value).isprintable()
    del error
    gc.collect()


@pytest.mark.parametrize("url", ["http://[::1/x", "http://host:port/x", "http:///x", "ftp://host/x", "http://" + "a" * 70 + ".example/x"])
def test_a_malformed_url_is_the_failure_of_that_source(path, url):
    with pytest.raises(Unavailable):
        download_file(url, path, CHECKSUM, MAX_BYTES)


@pytest.mark.parametrize("length", [b"", b"Content-Length: 7000000000\r\n"])
def test_a_body_without_end_is_ended_at_the_largest_size(answering, path, length):
    with pytest.raises(Damaged, match="more than 1,048,576 bytes"):
        download_file(answering(OK + length + b"\r\n", bytes(100_000)), path, CHECKSUM, MAX_BYTES)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("before", [OK + b"Content-Length: 100000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
def test_a_drip_without_end_is_ended(answering, path, monkeypatch, before):
    monkeypatch.setattr(downloads, "DOWNLOAD_S", 0.3)
    with pytest.raises(Unavailable, match=r"not complete after 0\.3 s"):
        download_file(answering(before, b"a"), path, CHECKSUM, MAX_BYTES)


def test_what_a_host_packs_without_being_asked_is_not_unpacked(answering, path):
    packed = gzip.compress(bytes(50 << 20))
    answer = OK + b"Content-Encoding: gzip\r\nContent-Length: " + str(len(packed)).encode() + b"\r\n\r\n" + packed
    with pytest.raises(Damaged, match="bytes with md5"):
        download_file(answering(answer), path, CHECKSUM, MAX_BYTES)
    assert path.with_name("data.bin.part.damaged").stat().st_size == len(packed)
