"""Prepared data: whole or absent, checked when it is read, made once by whoever comes first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddl.data import sources, store
from ddl.data.cache import cache_folder
from ddl.data.integrity import Damaged
from ddl.data.splits import fingerprint
from tests.waiting import HANG_S

PREPARED = "full-2.safetensors"


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "tiny").iterdir())


def flip_a_pixel(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def alter_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors["train.targets"] = 1 - tensors["train.targets"]
    save_file(tensors, path, metadata={"origin": json.dumps(store.read_data_set("tiny")[0].metadata())})


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_pixel,
        alter_a_tensor,
        lambda path: os.truncate(path, path.stat().st_size - 3),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"<html>" * 100),
        lambda path: path.write_bytes(b"\xff" * 100),
        lambda path: save_file({"x": torch.zeros(1)}, path),
        lambda path: save_file({"x": torch.zeros(1)}, path, metadata={"origin": "{"}),
        lambda path: save_file({"x": torch.zeros(1)}, path, metadata={"origin": "[]"}),
        lambda path: save_file({"x": torch.zeros(1)}, path, metadata={"origin": json.dumps(store.read_data_set("tiny")[0].metadata())}),
    ],
)
def test_damaged_prepared_data_is_set_aside_and_prepared_again(mirror, caplog, tmp_path, damage):
    origin = sources.prepare_data("tiny", "full")
    path = tmp_path / "cache" / "tiny" / PREPARED
    damage(path)
    bad = path.read_bytes()
    assert sources.load_data_set("tiny", "full").origin == origin
    aside = path.with_name(f"{PREPARED}.damaged")
    assert aside.read_bytes() == bad
    assert f"{path}: the prepared data" in caplog.text
    assert f"It is set aside as {aside} and prepared again." in caplog.text


def test_tests_leave_the_users_cache_alone():
    assert not cache_folder("cifar10").is_relative_to(Path.home() / ".cache")


def test_damaged_prepared_data_is_never_used_even_where_nothing_else_is_there(mirror, tmp_path):
    sources.prepare_data("tiny", "full")
    flip_a_pixel(tmp_path / "cache" / "tiny" / PREPARED)
    (mirror / "tiny.tar.gz").unlink()
    assert sources.load_data_set("tiny", "full").origin.fallback_for == "the whole of tiny"


def test_prepared_data_of_another_set_is_refused(mirror, tmp_path):
    sources.prepare_data("tiny", "full")
    os.renames(tmp_path / "cache/tiny" / PREPARED, tmp_path / "cache/mnist" / PREPARED)
    with pytest.raises(Damaged, match="the prepared data of tiny"):
        store.read_data_set("mnist")


def test_other_data_with_a_checksum_of_its_own_is_refused_if_the_official_one_is_known(mirror, tiny, tmp_path, caplog):
    origin = sources.prepare_data("tiny", "full")
    path = tmp_path / "cache" / "tiny" / PREPARED
    tensors = load_file(path)
    tensors["train.targets"] = 1 - tensors["train.targets"]
    save_file(tensors, path, metadata={"origin": json.dumps(origin.metadata() | {"sha256": fingerprint(tensors)})})
    assert sources.load_data_set("tiny", "full").origin.sha256 == fingerprint(tensors), "nobody knows the official one"
    sources.load_data_set.cache_clear()
    tiny.write(dark=0, light=1, sha256=origin.sha256)
    assert sources.load_data_set("tiny", "full").origin == origin
    assert f"but the official data has {origin.sha256}" in caplog.text


def test_unknown_data_of_another_user_is_refused(mirror, tiny, tmp_path, monkeypatch):
    origin = sources.prepare_data("tiny", "full")
    monkeypatch.setattr(store, "_trusted_users", lambda: {12345})
    with pytest.raises(ValueError, match=r"belongs to another user .* Set DDL_CACHE to a folder of your own"):
        sources.load_data_set("tiny", "full")
    tiny.write(dark=0, light=1, sha256=origin.sha256)
    assert sources.load_data_set("tiny", "full").origin == origin


def test_an_unusable_cache_folder_is_named(mirror, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DDL_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"file/tiny: tiny cannot be prepared there .*set DDL_CACHE to another folder"):
        sources.prepare_data("tiny", "full")


def test_a_failing_disk_leaves_no_prepared_data(mirror, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store.os, "replace", full)
        with pytest.raises(ValueError, match="No space left on device"):
            sources.prepare_data("tiny", "full")
    assert cached(tmp_path) == ["prepare.lock"]
    assert sources.prepare_data("tiny", "full").complete


def test_what_a_killed_process_left_is_removed(mirror, tmp_path):
    left = tmp_path / "cache" / "tiny" / "work-dead"
    left.mkdir(parents=True)
    (left / "half").touch()
    assert sources.prepare_data("tiny", "full").complete
    assert cached(tmp_path) == [PREPARED, "prepare.lock"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DDL_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/tiny"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/ddl/tiny"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/ddl/tiny"),
        ({"DDL_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/me/.cache/ddl/tiny"),
    ],
)
def test_where_the_cache_is(monkeypatch, variables, expected):
    monkeypatch.setenv("HOME", "/home/me")
    for variable in ("DDL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert cache_folder("tiny") == Path(expected)


def test_others_may_read_the_cache(mirror, tmp_path):
    sources.prepare_data("tiny", "full")
    assert (tmp_path / "cache/tiny" / PREPARED).stat().st_mode & 0o777 == 0o644


LOAD = """
import json, logging, multiprocessing, sys
from ddl.data import sources
from tests.data.conftest import Tiny, tiny_sample

def load(barrier, report):
    logging.basicConfig(filename=report + ".log")
    barrier.wait()
    metadata = sources.load_data_set("tiny", "full").origin.metadata()
    with open(report, "w") as file:
        json.dump(metadata, file)

url, reports, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
Tiny(url)
sources.read_bundled_sheets = tiny_sample
context = multiprocessing.get_context("fork")
barrier = context.Barrier(processes)
running = [context.Process(target=load, args=(barrier, f"{reports}/{number}")) for number in range(processes)]
for process in running:
    process.start()
for process in running:
    process.join()
"""


def load_at_once(tiny, reports: Path, processes: int) -> list[tuple[dict, str]]:
    """Each process's origin and log; they start to load, so to prepare, in the same moment. One import of torch serves all."""
    reports.mkdir()
    command = [sys.executable, "-c", LOAD, tiny.url, str(reports), str(processes)]
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    path = {"PYTHONPATH": str(Path(sources.__file__).parents[2])}
    subprocess.run(command, env=os.environ | one_thread | path, check=True, timeout=HANG_S)
    return [(json.loads((reports / str(n)).read_text()), (reports / f"{n}.log").read_text()) for n in range(processes)]


def test_eight_processes_prepare_at_once_and_download_once(host, tiny, tmp_path):
    host.files["/tiny.tar.gz"] = tiny.archive
    ends = load_at_once(tiny, tmp_path / "reports", processes=8)
    assert [metadata for metadata, _ in ends] == [ends[0][0]] * 8
    assert ends[0][0]["complete"]
    assert [log for _, log in ends] == [""] * 8
    assert len(host.requests) == 1
    assert cached(tmp_path) == ["downloads", PREPARED, "prepare.lock"]


def test_processes_that_find_no_source_ask_once_and_agree(host, tiny, tmp_path):
    ends = load_at_once(tiny, tmp_path / "reports", processes=8)
    assert [metadata["fallback_for"] for metadata, _ in ends] == ["the whole of tiny"] * 8
    assert [log.count("using the bundled sample instead") for _, log in ends] == [1] * 8
    assert len(host.requests) == 1
