"""The folder of a new run, where it cannot be created, and where others begin at the same time."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ddl import launch
from ddl.config import ConfigError
from ddl.sweeps import new_run
from ddl.sweeps.new_run import new_folder


def dangling(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere" / "x")
    return folder / "link"


def a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (a_file, "Not a directory"),
        (lambda folder: a_file(folder) / "below", "Not a directory"),
        (dangling, "File exists"),
        (lambda folder: folder / ("a" * 300), "File name too long"),
        (lambda folder: Path("/proc/ddl"), "No such file or directory"),
        (lambda folder: Path("/dev/null"), "Not a directory"),
    ],
)
def test_a_place_without_a_folder_is_a_mistake(
    place: Callable[[Path], Path], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "placed", raising=False)
    out = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=rf"--out .*: no folder can be created there \({reason}\)\. Name a folder that you can write"):
        new_folder(out, "sweep")
    Path("placed.py").write_text("def train(lr): return {'val/loss': lr}")
    sweep = ["--sweep", "placed.py:train", "lr=0.1", "metric=val/loss", "--executor", "inline"]
    assert launch.main([*sweep, "--out", str(out)]) == launch.BAD_INPUT
    problem, outcome = capsys.readouterr().err.splitlines()
    assert problem.startswith("--out ")
    assert outcome == "Nothing was started."
    assert sorted(path for path in tmp_path.rglob("*") if "placed" not in str(path) and "pycache" not in str(path)) == before


def test_runs_that_begin_in_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_run.time, "strftime", lambda form, _now=time.strftime: _now(form, time.gmtime(0)))
    names = [new_folder(tmp_path, "sweep").name for _ in range(3)]
    assert names == ["1970-01-01-000000", "1970-01-01-000000-2", "1970-01-01-000000-3"]
