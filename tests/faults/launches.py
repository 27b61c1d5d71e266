"""Campaign: many commands that resume one run, or begin runs of one sweep, at the same moment.

Of the commands that resume, one at a time has the run, and the others are refused; no trial is lost or trained twice. Each command that begins
a run gets a folder of its own.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from ddl.ledger_reader import LedgerReader
from tests.codebase import ROOT
from tests.waiting import wait_until

from .figures import write_figures

TRAIN = """
import time
from pathlib import Path

def train(lr):
    while lr > 0.15 and not Path("{go}").exists():
        time.sleep(0.02)
    yield {{"val/loss": lr}}
"""
SWEEP = (
    "--sweep",
    "train.py:train",
    "lr=0.1,0.2,0.3",
    "seeds=1",
    "metric=val/loss",
    "wandb.mode=disabled",
    "--executor",
    "inline",
    "resources.cpus=1",
)
WAIT = """
import sys, time
from pathlib import Path
import ddl.run, ddl.run_training
from ddl.launch import main
Path(sys.argv[1]).touch()
while not Path("race").exists():
    time.sleep(0.001)
sys.exit(main(sys.argv[2:]))
"""
"""A command that has imported everything and waits for the file `race`."""


def launch_together(number: int, folder: Path, *arguments: str) -> list[tuple[int, str]]:
    """Exit code and standard error of `number` equal commands in `folder` that begin at the same moment."""
    (folder / "race").unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    commands = [
        subprocess.Popen(
            [sys.executable, "-c", WAIT, f"ready-{index}", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(number)
    ]
    wait_until(lambda: len(list(folder.glob("ready-*"))) == number, "all commands have imported what they need")
    (folder / "race").touch()
    ended = [(command.communicate()[1], command.returncode) for command in commands]
    for path in folder.glob("ready-*"):
        path.unlink()
    return [(code, said) for said, code in ended]


def interrupted_run(folder: Path) -> Path:
    """A run of which one trial has finished, another one ran when its driver was killed, and the last one has not begun."""
    (folder / "train.py").write_text(TRAIN.format(go=folder / "go"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen([sys.executable, str(ROOT / "launch.py"), *SWEEP], cwd=folder, env=environment, stdout=subprocess.DEVNULL)

    def waits() -> bool:
        ledgers = list(folder.glob("runs/train/*/ledger.sqlite"))
        return bool(ledgers) and [trial.status for trial in LedgerReader(ledgers[0].parent).trials()][:2] == ["finished", "running"]

    wait_until(waits, "the second trial runs")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    (folder / "go").touch()
    return next(folder.glob("runs/train/*"))


def race(number: int, folder: Path) -> Counter[str]:
    """`number` commands resume one run at the same moment, then as many begin a run. Counts what they did."""
    run = interrupted_run(folder)
    outcomes = Counter[str]()
    for code, said in launch_together(number, folder, "--resume", str(run)):
        assert (code, said) in ((0, ""), (2, f"{run}: another process is running this sweep. Wait for it, or stop it first.\n")), (
            code,
            said,
        )
        outcomes["resumed the run or found it complete" if code == 0 else "were refused: the run has a driver"] += 1
    assert outcomes["resumed the run or found it complete"] >= 1
    reader = LedgerReader(run)
    assert [(trial.status, trial.attempts) for trial in reader.trials()] == [("finished", 1), ("finished", 2), ("finished", 1)]
    assert not reader.metrics().duplicated(["trial_id", "step", "name"]).any()

    assert [code for code, _ in launch_together(number, folder, *SWEEP)] == [0] * number
    runs = [each for each in folder.glob("runs/train/*") if each != run]
    assert len(runs) == number
    assert all(trial.status == "finished" for each in runs for trial in LedgerReader(each).trials())
    outcomes["began a run in a folder of their own"] = len(runs)
    return outcomes


def main(number: int = 20) -> None:
    with tempfile.TemporaryDirectory(prefix="ddl-faults-") as scratch:
        outcomes = race(number, Path(scratch))
    rows = [("commands at the same moment", number), *sorted(outcomes.items()), ("trials lost or trained twice", 0)]
    write_figures("launches", "Launches at the same moment", rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
