import hashlib
import io
import random
import socket
from pathlib import Path

import pytest
from rich.console import Console

from ddl.data import downloads
from ddl.data.downloads import display_url, download_file
from ddl.data.integrity import Damaged, Unavailable

BODY = random.Random(7).randbytes(200_000)
CHECKSUM = f"md5:{hashlib.md5(BODY).hexdigest()}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "data.bin"


@pytest.fixture
def url(host) -> str:
    host.files["/data.bin"] = BODY
    return f"{host.url}/data.bin"


def test_a_file_comes_whole_and_only_once(host, url, path):
    download_file(url, path, CHECKSUM)
    download_file(url, path, CHECKSUM)
    assert path.read_bytes() == BODY
    assert host.requests == [("/data.bin", None)]
    assert [p.name for p in path.parent.iterdir()] == ["data.bin"]


def test_sha256_is_understood_too(url, path):
    download_file(url, path, f"sha256:{hashlib.sha256(BODY).hexdigest()}")
    assert path.read_bytes() == BODY


def test_an_interrupted_download_is_continued_where_it_ended(host, url, path):
    path.parent.mkdir()
    path.with_name("data.bin.part").write_bytes(BODY[:150_000])
    download_file(url, path, CHECKSUM)
    assert path.read_bytes() == BODY
    assert host.requests == [("/data.bin", "bytes=150000-")]


def test_a_connection_that_breaks_twice_is_continued(host, url, path):
    host.cut_after = [70_000, 70_000]
    download_file(url, path, CHECKSUM)
    assert path.read_bytes() == BODY
    assert [asked for _, asked in host.requests] == [None, "bytes=65536-", "bytes=131072-"]


def test_a_download_that_gets_nowhere_ends_and_keeps_what_came(host, url, path):
    host.cut_after = [70_000, 0, 0, 0]
    with pytest.raises(Unavailable, match=r"data\.bin: "):
        download_file(url, path, CHECKSUM)
    assert len(host.requests) == 2
    assert path.with_name("data.bin.part").read_bytes() == BODY[:65_536]
    assert not path.exists()


def test_a_host_that_cannot_continue_sends_the_whole_again(host, url, path):
    host.continues = False
    path.parent.mkdir()
    path.with_name("data.bin.part").write_bytes(BODY[:150_000])
    download_file(url, path, CHECKSUM)
    assert path.read_bytes() == BODY
    assert len(host.requests) == 1


def test_a_part_that_is_already_whole_is_taken(host, url, path):
    path.parent.mkdir()
    path.with_name("data.bin.part").write_bytes(BODY)
    download_file(url, path, CHECKSUM)
    assert path.read_bytes() == BODY
    assert len(host.requests) == 1


def test_a_part_of_another_file_is_set_aside_and_the_whole_fetched(host, url, path, caplog):
    path.parent.mkdir()
    path.with_name("data.bin.part").write_bytes(b"x" * 150_000)
    download_file(url, path, CHECKSUM)
    assert path.read_bytes() == BODY
    assert path.with_name("data.bin.part.damaged").exists()
    assert "the resumed download has the wrong checksum" in caplog.text


def test_a_damaged_file_is_set_aside_and_fetched_again(url, path, caplog):
    path.parent.mkdir()
    path.write_bytes(BODY[:-1])
    download_file(url, path, CHECKSUM)
    assert path.read_bytes() == BODY
    assert path.with_name("data.bin.damaged").read_bytes() == BODY[:-1]
    assert f"{path}: 199,999 bytes with md5" in caplog.text


def test_other_bytes_are_refused_and_set_aside(host, url, path):
    host.files["/data.bin"] = BODY[:-1] + b"!"
    with pytest.raises(Damaged, match="cut off or altered"):
        download_file(url, path, CHECKSUM)
    assert not path.exists()
    assert path.with_name("data.bin.part.damaged").exists()


@pytest.mark.parametrize(("content_type", "saved"), [("text/html; charset=utf-8", False), ("application/octet-stream", True)])
def test_a_web_page_is_refused_and_not_even_saved_where_the_host_admits_it(host, url, path, content_type, saved):
    host.content_type = content_type
    host.files["/data.bin"] = b"\n<!DOCTYPE html><title>Please log in</title>"
    with pytest.raises(Damaged, match="a web page, not data"):
        download_file(url, path, CHECKSUM)
    assert [p.name for p in path.parent.iterdir()] == (["data.bin.part.damaged"] if saved else [])


def test_a_missing_file_says_so(host, path):
    with pytest.raises(Unavailable, match=r"absent\.bin: HTTP 404"):
        download_file(f"{host.url}/absent.bin", path, CHECKSUM)


def test_nobody_listening(path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match="connection failed or closed"):
        download_file(f"http://127.0.0.1:{port}/data.bin", path, CHECKSUM)


def test_a_silent_host_is_given_up(host, url, path, monkeypatch):
    monkeypatch.setattr(downloads, "READ_TIMEOUT_S", 0.2)
    host.silent.set()
    with pytest.raises(Unavailable, match=r"no data for 0.2 s"):
        download_file(url, path, CHECKSUM)


def test_connecting_takes_five_seconds_at_most(url, path, monkeypatch):
    asked = []
    get = downloads.requests.get
    monkeypatch.setattr(downloads.requests, "get", lambda *args, **kw: asked.append(kw["timeout"]) or get(*args, **kw))
    download_file(url, path, CHECKSUM)
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
        download_file(url.replace("//", "//user:hunter2@") + "?token=hunter2", path, CHECKSUM)
    assert "hunter2" not in str(error.value)
    assert "/data.bin" in str(error.value)


def test_a_url_is_shown_without_secrets():
    assert display_url("https://user:hunter2@host:81/a/b?token=hunter2") == "https://host:81/a/b"


def test_a_full_disk_is_no_matter_of_the_source(url, path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        download_file(url, path, CHECKSUM)
    assert not path.exists()


def test_a_bar_is_shown_on_a_terminal(url, path, monkeypatch):
    shown_there = io.StringIO()
    monkeypatch.setattr(downloads, "Console", lambda stderr: Console(file=shown_there, force_terminal=True, width=100))
    download_file(url, path, CHECKSUM)
    assert "data.bin" in shown_there.getvalue()
    assert "200.0/200.0 kB" in shown_there.getvalue()


def test_nothing_is_shown_elsewhere(url, path, capsys):
    download_file(url, path, CHECKSUM)
    assert capsys.readouterr() == ("", "")
