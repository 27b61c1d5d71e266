"""A second run on the same machine names the first one while that lives."""

import os
import signal
from pathlib import Path

from ddl.machine_use import announce, other_runs
from ddl.scratch import scratch_folder
from tests.sweeps.command import launch, nothing_left, start  # noqa: F401  the fixture `nothing_left`
from tests.waiting import wait_until

SWEEP = ("--sweep", "train.py:train", "lr=0.1,0.2", "seeds=1", "metric=val/loss", "wandb.mode=disabled", "--executor", "inline")
WAITS = """
import time
from pathlib import Path
def train(lr):
    Path("started").touch()
    time.sleep(3600)
"""


def test_the_plan_names_another_run_until_that_has_ended(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(WAITS)
    (tmp_path / "tmp").mkdir()
    first = start(*SWEEP, "resources.cpus=1", cwd=tmp_path, TMPDIR=str(tmp_path / "tmp"))
    wait_until((tmp_path / "started").exists, "the first run trains")
    (run,) = tmp_path.glob("runs/train/*")
    line = f"another run uses 1 CPU core of this machine, so both are slower than alone: {run}"
    assert line in launch(*SWEEP, "--plan", cwd=tmp_path, TMPDIR=str(tmp_path / "tmp")).stdout.splitlines()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert "another run" not in launch(*SWEEP, "--plan", cwd=tmp_path, TMPDIR=str(tmp_path / "tmp")).stdout


def test_what_is_no_description_of_a_run_is_ignored(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_folder("run") as own, scratch_folder("run") as other, scratch_folder("run") as odd:
        announce(own, Path("/own"), 2)
        announce(other, Path("/oth\x1ber"), 4, 0.5)
        for content in ("", "[]", "{}", '{"run": "a", "cpus": "many", "gpus": 0}', '{"run": "a", "cpus": 1, "gpus": null'):
            (odd / "use.json").write_text(content)
            (said,) = other_runs(own)
            assert said == "another run uses 4 CPU cores and 0.5 GPUs of this machine, so both are slower than alone: /oth\\x1ber"
        announce(odd, Path("/odd"))
        assert sorted(other_runs(own))[0] == "another run is being planned on this machine, so both are slower than alone: /odd"
