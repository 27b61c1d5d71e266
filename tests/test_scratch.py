"""Temporary folders: removed at the end, or by the next process if theirs was killed."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ddl import scratch
from ddl.scratch import scratch_folder
from tests.codebase import ROOT

HELD = """
import sys, time
from pathlib import Path
from ddl.scratch import scratch_folder
with scratch_folder("run", Path(sys.argv[1])) as folder:
    (folder / "large").write_text("x" * 1000)
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def first_call() -> None:
    scratch._remove_abandoned.cache_clear()


def test_a_folder_is_private_and_ends_with_its_context(tmp_path: Path) -> None:
    with scratch_folder("run", tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith("ddl-run-")
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_kept(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    held = [
        subprocess.Popen([sys.executable, "-c", HELD, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    killed, alive = (Path(process.stdout.readline().strip()) for process in held)
    try:
        held[0].send_signal(signal.SIGKILL)
        held[0].communicate()
        assert (killed / "large").is_file()
        with scratch_folder("run", tmp_path) as folder:
            assert {path.name for path in tmp_path.iterdir()} == {folder.name, alive.name}
    finally:
        held[1].terminate()
        held[1].communicate()


def test_what_is_not_a_folder_of_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "ddl-notes").mkdir()
    (tmp_path / "ddl-file").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lock").touch()
    (tmp_path / "ddl-link").symlink_to(tmp_path / "elsewhere")
    before = {path.name for path in tmp_path.iterdir()}
    with scratch_folder("run", tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "elsewhere" / "lock").exists()


def test_a_folder_that_cannot_be_locked_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", full)
    with pytest.raises(OSError, match="No locks available"), scratch_folder("run", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
