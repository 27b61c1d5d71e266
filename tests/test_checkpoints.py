"""A checkpoint is whole or absent, whatever fails and whenever the process is killed."""

import errno
import io
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pytest
import torch

from ddl import checkpoints
from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[1]


def state(step: int, size: int = 8) -> dict:
    return {"step": step, "loss": step / 3, "weights": {"a": torch.full((size,), float(step))}}


def taken_at(found: tuple | None) -> int | None:
    """The step of a loaded checkpoint, None for none, after a look at whether all of it is of that step."""
    if found is None:
        return None
    step, loaded = found
    assert loaded["step"] == step
    assert loaded["loss"] == step / 3
    assert (loaded["weights"]["a"] == step).all()
    return step


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder in memory where there is such: what is synced a thousand times is synced fast."""
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name)


# Round trips


def test_all_that_a_state_can_hold_comes_back(tmp_path):
    held = {
        "nested": {"deeper": {"w": torch.randn(3, 4), "empty": {}}},
        "zero_dimensional": torch.tensor(3.5),
        "bf16": torch.randn(5).bfloat16(),
        "bool": torch.tensor([True, False]),
        "int64": torch.tensor([2**62, -1]),
        "uint8": torch.arange(6, dtype=torch.uint8).view(2, 3),
        "none_of_it": torch.zeros(0, 3),
        "int": 2**70,
        "float": 0.1,
        "tiny": 5e-324,
        "infinite": float("inf"),
        "true": True,
        "none": None,
        "text": 'naïve "quoted" \n',
        "list": [1, [torch.ones(2), None], {"x": 1.0}],
    }
    checkpoints.store(tmp_path, "trial", 7, held)
    step, loaded = checkpoints.newest(tmp_path, "trial")
    assert step == 7
    assert same(loaded, held)


def test_tensors_that_share_memory_or_lie_strangely_in_it(tmp_path):
    tied, rows = torch.randn(3), torch.randn(4, 5)
    held = {
        "a": tied,
        "b": tied,
        "row": rows[1],
        "column": rows[:, 1],
        "rows": rows,
        "last": rows.view(2, 2, 5, 1).to(memory_format=torch.channels_last),
    }
    checkpoints.store(tmp_path, "trial", 1, held)
    assert same(checkpoints.newest(tmp_path, "trial")[1], held)


def test_names_that_look_like_paths_are_kept_apart(tmp_path):
    held = {"a": {"b": torch.tensor(1)}, "a/b": torch.tensor(2), "": {"": torch.tensor(3)}, "tensor": {"items": {"list": torch.tensor(4)}}}
    checkpoints.store(tmp_path, "trial", 1, held)
    assert same(checkpoints.newest(tmp_path, "trial")[1], held)


def test_an_optimisers_state_keeps_its_numbered_keys(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimiser.step()
    checkpoints.store(tmp_path, "trial", 1, optimiser.state_dict())
    assert list(checkpoints.newest(tmp_path, "trial")[1]["state"]) == [0]


def test_a_state_that_nothing_could_read_back_is_refused(tmp_path):
    for held, reason in {
        "keys": ({"a": {1: 2, "b": 3}}, "state's /a: a checkpoint can hold dictionaries whose keys are all texts or all whole numbers"),
        "set": ({"a": {1, 2}}, "state's /a: a checkpoint cannot hold a set"),
        "texts": ({"a": np.array(["b"])}, "state's /a: a checkpoint cannot hold a ndarray"),
        "complex": ({"a": torch.zeros(2, dtype=torch.complex128)}, "state's /a: a checkpoint cannot hold a tensor of torch.complex128"),
        "sparse": ({"a": torch.eye(3).to_sparse()}, "state's /a: a checkpoint cannot hold a tensor of .*torch.sparse_coo"),
    }.values():
        with pytest.raises(TypeError, match=reason):
            checkpoints.store(tmp_path / "trial", "trial", 1, held)
    assert not (tmp_path / "trial").exists()


def test_numpy_arrays_and_numbers_of_a_state_come_back(tmp_path):
    arrays = [
        np.arange(6.0)[::2],
        np.array(3, "int16"),
        np.array([1, 2], ">f4"),
        np.zeros((0, 2)),
        np.array([True]),
        np.array([2**63], "uint64"),
    ]
    arrays[0].flags.writeable = False
    checkpoints.store(tmp_path, "trial", 1, {"arrays": arrays, "numbers": [np.int64(3), np.float32(0.5), np.bool_(True)]})
    loaded = checkpoints.newest(tmp_path, "trial")[1]
    for array, restored in zip(arrays, loaded["arrays"], strict=True):
        assert isinstance(restored, np.ndarray)
        assert restored.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(restored, array)
    assert [(type(number), number) for number in loaded["numbers"]] == [(int, 3), (float, 0.5), (bool, True)]


def test_where_there_is_none(tmp_path):
    assert checkpoints.newest(tmp_path, "trial") is None
    assert checkpoints.newest(tmp_path / "nowhere", "trial") is None


def test_the_newest_two_are_kept_by_step_and_not_by_name(tmp_path):
    for step in (5, 999_999_999, 1_000_000_000, 70):
        checkpoints.store(tmp_path, "trial", step, state(step))
    assert taken_at(checkpoints.newest(tmp_path, "trial")) == 1_000_000_000
    assert len(list(tmp_path.iterdir())) == checkpoints.KEEP == 2


def test_a_step_stored_again_is_replaced(tmp_path):
    for loss in (1.0, 2.0):
        checkpoints.store(tmp_path, "trial", 3, {"loss": loss})
    assert checkpoints.newest(tmp_path, "trial") == (3, {"loss": 2.0})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003"]


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path):
    (tmp_path / "step-000000001.partial").mkdir()
    checkpoints.store(tmp_path, "trial", 2, state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000002"]


# Failures while writing


@contextmanager
def strike(at: int, blow: Callable[[], None]):
    """Every call that changes the disk is counted; at call number `at`, `blow` comes instead. Yields the counter."""
    count = [0]

    def struck(real):
        def call(*arguments, **named):
            count[0] += 1
            if count[0] == at:
                blow()
            return real(*arguments, **named)

        return call

    class Raw(io.FileIO):
        def write(self, content):
            count[0] += 1
            if count[0] == at:
                super().write(memoryview(content)[: len(content) // 2])
                blow()
            return super().write(content)

    real_open = io.open

    def opened(file, mode="r", *arguments, **named):
        return struck(lambda: io.BufferedWriter(Raw(file, "wb")))() if mode == "wb" else real_open(file, mode, *arguments, **named)

    with mock.patch.object(io, "open", opened):
        names = ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir")
        patches = [mock.patch.object(os, name, struck(getattr(os, name))) for name in names]
        for patch in patches:
            patch.start()
        try:
            yield count
        finally:
            for patch in patches:
                patch.stop()


def failing(code: int) -> Callable[[], None]:
    def blow() -> None:
        raise OSError(code, os.strerror(code))

    return blow


BEFORE = {
    "none before": [],
    "an older one before": [4],
    "two older before": [3, 4],
    "the same step before": [5],
    "the same step and an older before": [4, 5],
}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE.keys())
def test_one_failing_call_leaves_the_old_or_the_new_checkpoint(folder, before, code):
    raised = 0
    for at in itertools.count(1):
        here = folder / str(at)
        for step in before:
            checkpoints.store(here, "trial", step, {"loss": "old", "step": step})
        old = checkpoints.newest(here, "trial")
        new = (5, {"loss": "new", "step": 5})
        with strike(at, failing(code)) as count:
            try:
                checkpoints.store(here, "trial", *new)
                failed = False
            except OSError as error:
                failed = error.errno == code
        found = checkpoints.newest(here, "trial")
        assert found in ((old, new) if failed else (new,)), f"call {at}"
        checkpoints.store(here, "trial", 6, {"loss": "later"})
        assert checkpoints.newest(here, "trial") == (6, {"loss": "later"})
        raised += failed
        if count[0] < at:
            break
    assert raised >= 8, "two files, each opened, written and synced, a folder made and renamed"


def test_all_of_it_is_on_the_disk_before_it_has_its_name_and_the_name_before_it_is_called_stored(tmp_path, monkeypatch):
    synced, missing, sync, rename = [], [], os.fsync, os.rename

    def noted_sync(descriptor: int) -> None:
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    def noted_rename(source: Path, target: Path) -> None:
        missing.extend(path.name for path in [source, *source.iterdir()] if path.stat().st_ino not in synced)
        synced.clear()
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "rename", noted_rename)
    checkpoints.store(tmp_path, "trial", 1, state(1))
    assert missing == []
    assert synced == [tmp_path.stat().st_ino]


def kill_at_every_call(folder: Path) -> None:
    """The same with SIGKILL. In a process of its own, since it forks."""
    for name, before in BEFORE.items():
        for at in itertools.count(1):
            here = folder / name / str(at)
            for step in before:
                checkpoints.store(here, "trial", step, {"loss": "old", "step": step})
            old = checkpoints.newest(here, "trial")
            child = os.fork()
            if child == 0:
                with strike(at, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                    checkpoints.store(here, "trial", 5, {"loss": "new", "step": 5})
                os._exit(0)
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            new = (5, {"loss": "new", "step": 5})
            found = checkpoints.newest(here, "trial")
            assert found in ((old, new) if killed else (new,)), f"{name}, call {at}: {found}"
            checkpoints.store(here, "trial", 6, {"loss": "later"})
            assert checkpoints.newest(here, "trial") == (6, {"loss": "later"})
            if not killed:
                assert at > 8
                break


def kill_at_random_moments(folder: Path) -> None:
    """Whatever a process said it had stored is there after it was killed."""
    moments = random.Random(0)
    last = 0
    for _ in range(12):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            for step in range(last + 1, last + 1000):
                checkpoints.store(folder, "trial", step, state(step, size=5_000))
                os.write(writing, struct.pack("q", step))
        os.close(writing)
        acknowledged = struct.unpack("q", os.read(reading, 8))[0]
        time.sleep(moments.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while content := os.read(reading, 8):
            (acknowledged,) = struct.unpack("q", content)
        os.close(reading)
        last = taken_at(checkpoints.newest(folder, "trial"))
        assert last >= acknowledged, "a checkpoint that was stored is gone"


def elsewhere(what: Callable[[Path], None], folder: Path, *before: str) -> subprocess.CompletedProcess:
    script = f"import pathlib; from tests.test_checkpoints import {what.__name__} as go; go(pathlib.Path({str(folder)!r}))"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [*before, sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S
    )


def kill(folder: Path) -> None:
    torch.set_num_threads(1)  # a fork takes no thread along, and would wait for those of a pool
    kill_at_every_call(folder / "every call")
    kill_at_random_moments(folder / "random moments")


def test_a_kill_leaves_the_old_or_the_new_checkpoint_and_loses_nothing_that_was_stored(folder):
    done = elsewhere(kill, folder)
    assert done.returncode == 0, done.stderr


def fill_the_disk(folder: Path) -> None:
    checkpoints.store(folder, "trial", 1, state(1, size=50_000))
    for size in (100_000, 150_000, 200_000, 240_000, 260_000):
        try:
            checkpoints.store(folder, "trial", 2, state(2, size=size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            assert taken_at(checkpoints.newest(folder, "trial")) == 1
            assert [path.name for path in folder.iterdir()] == ["step-000000001"], "the half-written one still takes up room"
            checkpoints.store(folder, "trial", 2, state(2, size=50_000))
            assert taken_at(checkpoints.newest(folder, "trial")) == 2
            return
        shutil.rmtree(folder / "step-000000002")
    raise AssertionError("the disk was never full")


def test_a_full_disk_is_reported_and_the_old_checkpoint_stays(tmp_path):
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"', str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here: user namespaces are not allowed")
    done = elsewhere(fill_the_disk, tmp_path, *mount)
    assert done.returncode == 0, done.stderr


# Damage afterwards


@pytest.fixture
def two(folder: Path) -> Path:
    """A folder with checkpoints of steps 1 and 2."""
    for step in (1, 2):
        checkpoints.store(folder / "two", "trial", step, state(step, size=5000))
    return folder / "two"


def after(two: Path, damage: Callable[[Path], object]) -> int | None:
    """The step that is loaded from a copy of `two` after `damage` to its newer checkpoint, which must be set aside if it is not."""
    folder = two.with_name("damaged")
    shutil.copytree(two, folder)
    damage(folder / "step-000000002")
    step = taken_at(checkpoints.newest(folder, "trial"))
    assert (folder / "step-000000002.damaged").exists() == (step != 2)
    assert taken_at(checkpoints.newest(folder, "trial")) == step, "the second look finds the same without a warning"
    shutil.rmtree(folder)
    return step


def test_a_damaged_checkpoint_is_named_and_set_aside_and_the_older_one_taken(two):
    (two / "step-000000002" / "manifest.json").unlink()
    with pytest.warns(UserWarning, match=r"step-000000002: damaged checkpoint .*renamed to step-000000002\.damaged"):
        assert taken_at(checkpoints.newest(two, "trial")) == 1
    assert sorted(path.name for path in two.iterdir()) == ["step-000000001", "step-000000002.damaged"]


def test_truncation_anywhere(two):
    for file, every in (("state.safetensors", 4096), ("manifest.json", 16)):
        content = (two / "step-000000002" / file).read_bytes()
        for length in [*range(0, len(content), every), len(content) - 1]:
            with pytest.warns(UserWarning, match="renamed to"):
                assert after(two, lambda path, cut=content[:length], file=file: (path / file).write_bytes(cut)) == 1


def test_a_flipped_bit_anywhere(two):
    for file, every in (("state.safetensors", 997), ("manifest.json", 1)):
        content = (two / "step-000000002" / file).read_bytes()
        for position in range(0, len(content), every):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            with pytest.warns(UserWarning, match="renamed to"):
                assert after(two, lambda path, flipped=flipped, file=file: (path / file).write_bytes(flipped)) == 1, (file, position)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "state.safetensors").unlink(),
        lambda path: shutil.copy(path.parent / "step-000000001" / "state.safetensors", path),
        lambda path: shutil.copy(path.parent / "step-000000001" / "manifest.json", path),
        lambda path: (path / "manifest.json").write_text("[]"),
        lambda path: (path / "manifest.json").write_text("null"),
        lambda path: (path / "manifest.json").write_text("[" * 100_000),
        lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe"),
        lambda path: (shutil.rmtree(path), path.write_text("a file in its place")),
        lambda path: (shutil.rmtree(path), path.mkdir()),
    ],
    ids=["no tensors", "older tensors", "older manifest", "a list", "null", "nested", "no text", "a file", "an empty folder"],
)
def test_other_damage(two, damage):
    with pytest.warns(UserWarning, match="renamed to"):
        assert after(two, damage) == 1


def test_where_all_are_damaged_there_is_none(two):
    for path in two.iterdir():
        (path / "state.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="renamed to"):
        assert checkpoints.newest(two, "trial") is None


def forged(path: Path, content: bytes | None = None, **values: object) -> None:
    """A checkpoint with other contents under a checksum that is right."""
    manifest = json.loads((path / "manifest.json").read_text()) | values
    if content is not None:
        (path / "state.safetensors").write_bytes(content)
    manifest["sha256"] = checkpoints._checksum(manifest, (path / "state.safetensors").read_bytes())
    (path / "manifest.json").write_text(json.dumps(manifest))


def header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + bytes(64)


class Touch:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_is_forged_is_believed_where_it_is_sound(two):
    assert after(two, lambda path: forged(path)) == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"identity": "another"}, "belongs to another, not to trial"),
        ({"schema": 2}, "schema 2, this version of ddl reads 1"),
        ({"schema": None}, "schema None"),
        ({"state": {"items": []}}, ""),
        ({"state": {"tensor": "/none"}}, ""),
        ({"state": {"items": {"w": {"other": 1}}}}, ""),
    ],
)
def test_a_checkpoint_of_another_kind(two, values, said):
    with pytest.warns(UserWarning, match=f"damaged checkpoint .*{said}.*renamed to"):
        assert after(two, lambda path: forged(path, **values)) == 1


def test_a_checkpoint_made_to_do_harm(two, tmp_path):
    harm = tmp_path / "harm"
    contents = [
        pickle.dumps(Touch(harm)),
        header('{"/weights/a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,64]}}'),
        header('{"/weights/a":{"dtype":"F32","shape":[16],"data_offsets":[0,9999999]}}'),
        struct.pack("<Q", 2**63) + b"{}",
    ]
    for content in contents:
        with pytest.warns(UserWarning, match="renamed to"):
            assert after(two, lambda path, content=content: forged(path, content)) == 1
    assert not harm.exists()


def test_a_trial_takes_over_anothers_newest_checkpoint_and_forgets_its_own(tmp_path):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    checkpoints.store(mine, "me", 90, {"value": 1})
    checkpoints.store(theirs, "them", 40, {"value": 2})
    checkpoints.store(theirs, "them", 50, {"value": 3})
    assert checkpoints.take_over(mine, "me", theirs, "them", 10**9)
    assert checkpoints.newest(mine, "me") == (50, {"value": 3})
    assert checkpoints.newest(theirs, "them") == (50, {"value": 3}), "theirs is theirs still"
    assert not checkpoints.take_over(mine, "me", tmp_path / "nobody", "nobody", 10**9)
    assert checkpoints.newest(mine, "me") == (50, {"value": 3}), "from one that has none nothing is taken, and nothing lost"


def test_another_trials_state_is_taken_at_the_step_asked_for_as_long_as_that_is_kept(tmp_path):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for step in range(1, 11):
        checkpoints.store(theirs, "them", step, {"value": torch.tensor(step)}, keep_from=step - 4)
    assert sorted(path.name for path in theirs.iterdir()) == [f"step-{step:09d}" for step in range(6, 11)]
    assert checkpoints.take_over(mine, "me", theirs, "them", 7)
    step, state = checkpoints.newest(mine, "me")
    assert (step, state["value"].item()) == (7, 7)
    assert not checkpoints.take_over(mine, "me", theirs, "them", 5)
