"""Files and folders that the user may not read or write. Root may, so if the tests run as root, the commands run without that right."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ddl.ledger_reader import LedgerReader
from tests.codebase import ROOT

AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]
"""A root without the rights to read and write all files."""

SWEEP = ["--sweep", "train.py:train", "lr=0.1,0.2", "seeds=1", "metric=val/loss", "wandb.mode=disabled", "--executor"]
SCRIPT = """
import contextlib, io, json, sys
from ddl.launch import main
answers = []
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(arguments)
    answers.append((code, said.getvalue()))
print(json.dumps(answers))
"""
pytestmark = pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everything, and there is no setpriv to take that away"
)


@dataclass
class Folder:
    """A folder with a run, and the id of a trial of it."""

    path: Path
    run: Path
    trial: str

    def answers(self, *commands: Sequence[str], **variables: str) -> list[tuple[int, str]]:
        """Exit code and standard error of each command, which runs in the folder `work` that can be written."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | variables
        started = [*(AS_OTHERS if os.geteuid() == 0 else []), sys.executable, "-c", SCRIPT, json.dumps(commands)]
        done = subprocess.run(started, cwd=self.path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [tuple(answer) for answer in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    path = tmp_path_factory.mktemp("permissions")
    (path / "train.py").write_text("def train(lr): return {'val/loss': lr}")
    subprocess.run([sys.executable, str(ROOT / "launch.py"), *SWEEP, "inline"], cwd=path, check=True, capture_output=True)
    (run,) = path.glob("runs/train/*")
    yield Folder(path, run, LedgerReader(run).trials()[0].trial_id)
    for place in [path, *path.rglob("*")]:
        place.chmod(0o755)


def protected(*paths: Path, mode: int = 0o555) -> None:
    for path in paths:
        path.chmod(mode)


def contents(run: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in run.iterdir()}


@pytest.mark.parametrize("which", ["folder", "ledger"])
def test_a_run_that_cannot_be_written_is_not_resumed_and_its_results_can_be_read(which: str, folder: Folder) -> None:
    place = {"folder": folder.run, "ledger": folder.run / "ledger.sqlite"}[which]
    protected(place)
    try:
        before = contents(folder.run)
        answers = folder.answers(
            ["--resume", str(folder.run)],
            ["--resume", str(folder.run), "--again", folder.trial],
            ["--report", str(folder.run), "--format", "markdown"],
        )
        assert contents(folder.run) == before
    finally:
        protected(place, mode=0o755)
    refused = f"{place}: Permission denied. Change its permissions, or work with a copy.\n"
    assert answers == [(2, refused), (2, refused), (0, "")]


def test_a_run_that_cannot_be_read_is_named(folder: Folder) -> None:
    ledger = folder.run / "ledger.sqlite"
    commands = (["--report", str(folder.run)], ["--resume", str(folder.run)], ["--reproduce", str(folder.run / "trials" / folder.trial)])
    for place, mode in ((ledger, 0o644), (folder.run, 0o755)):
        protected(place, mode=0)
        answers = folder.answers(*commands)
        protected(place, mode=mode)
        assert answers == [(2, f"{place}: Permission denied. Change its permissions, or work with a copy.\n")] * 3


def test_a_report_that_cannot_be_written_names_the_file(folder: Folder) -> None:
    protected(folder.run)
    (answer,) = folder.answers(["--report", str(folder.run)])
    protected(folder.run, mode=0o755)
    assert answer == (
        1,
        f"{folder.run}/results.csv: cannot be written (Permission denied). Make it writable, then run the command again.\n",
    )


def test_a_sweep_in_a_checkout_that_cannot_be_written_is_refused(folder: Folder) -> None:
    runs = folder.path / "runs"
    runs.rename(folder.path / "elsewhere")
    protected(folder.path)
    try:
        answers = folder.answers([*SWEEP, "inline"], [*SWEEP, "ray"], [*SWEEP, "inline", "--out", "/proc/nowhere"])
        assert not runs.exists()
    finally:
        protected(folder.path, mode=0o755)
        (folder.path / "elsewhere").rename(runs)
    refused = (
        "no folder can be created there (Permission denied). Name a folder that you can write, as in --out ~/runs.\nNothing was started.\n"
    )
    assert answers[:2] == [(2, f"--out runs: {refused}")] * 2
    assert answers[2][0] == 2


def test_a_sweep_needs_no_home_that_can_be_written(folder: Folder) -> None:
    home = folder.path / "home"
    home.mkdir()
    protected(home)
    answers = folder.answers(
        [*SWEEP, "inline", "--out", "new"],
        [*SWEEP, "ray", "--out", "new"],
        ["--prepare-data", "mnist"],
        HOME=str(home),
        XDG_CONFIG_HOME="",
        DDL_CACHE="",
    )
    assert [code for code, _ in answers] == [0, 0, 2]
    assert f"mnist cannot be prepared there ([Errno 13] Permission denied: '{home}/.cache')" in answers[2][1]
    assert list(home.iterdir()) == []
