"""The driver of several sweeps in one queue."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ddl.driver import _link_trial_folder


@pytest.mark.parametrize("begun", [True, False])
def test_the_folder_of_a_trial_in_two_sweeps_is_linked_once_by_a_run_and_its_resumes(tmp_path: Path, begun: bool) -> None:
    first, second = (SimpleNamespace(folder=tmp_path / name) for name in ("regularisation", "augmentation"))
    for run in (first, second):
        run.folder.mkdir()
    _link_trial_folder(first, second, "t1")
    if begun:
        (first.folder / "trials" / "t1").mkdir(parents=True)
    _link_trial_folder(first, second, "t1")
    _link_trial_folder(second, first, "t1")  # a resume opens the sweeps in the order of their names
    (second.folder / "trials" / "t1").resolve().mkdir(parents=True, exist_ok=True)
    (second.folder / "trials" / "t1" / "checkpoints").mkdir()
    assert (first.folder / "trials" / "t1" / "checkpoints").is_dir()
    assert not (first.folder / "trials" / "t1").is_symlink()
