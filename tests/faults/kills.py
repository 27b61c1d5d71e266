"""Campaign: sweeps whose driver, trial processes or Ray processes are killed at random moments end like undisturbed ones.

Each disturbed run is resumed until it has ended. No trial that had finished may be lost or trained again, and no step may be measured twice.
The statuses, all measurements and the final weights must be those of the undisturbed run, bit for bit, with two exceptions: the decisions of
population based training depend on which trial is faster, so there each step must be measured or skipped by continuing from another trial; and
trials of a stack whose process was killed continue one by one, so their losses agree within rounding.

Commands: `python -m tests.faults.kills --kills 40 --seed 23` adds to `kills.json`, so that a campaign can be done in pieces.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from ddl import checkpoints
from ddl.ledger_reader import LedgerReader
from ddl.storage.runs import LEASE
from tests.codebase import ROOT
from tests.waiting import wait_until

from .figures import write_figures

SEED = 22
WALK = """
import time
import torch
from ddl import Progress

def walk(lr: float, *, seed: int, resume=None):
    first, weights = (resume["step"], resume["weights"]) if resume else (0, torch.zeros(16))
    for step in range(first + 1, 21):
        noise = torch.randn(16, generator=torch.Generator().manual_seed(1000 * seed + step))
        weights = 0.9 * weights + lr * noise
        time.sleep(0.1)
        state = {"step": step, "weights": weights}
        yield Progress(step=step, total_steps=20, metrics={"val/loss": float(weights.square().mean())}, state=lambda: state)
"""
FUNCTION = ("--sweep", "walk.py:walk", "metric=val/loss", "wandb.mode=disabled", "checkpoint_every_s=0.2", "retries=50")
ONE_AT_A_TIME = f"resources.cpus={len(os.sched_getaffinity(0))}"
SWEEPS: Mapping[str, Sequence[str]] = {
    "grid": (*FUNCTION, "lr=0.1,0.2,0.3", "seeds=2", "resources.cpus=1"),
    "asha": (*FUNCTION, "lr=0.2,0.1,0.3,0.4", "seeds=1", ONE_AT_A_TIME, "measurements=20", "early_stopping.scheduler=asha"),
    "tpe": (*FUNCTION, "lr={uniform: [0.1, 1.0]}", "samples=5", "seeds=1", ONE_AT_A_TIME, "search.algorithm=tpe"),
    "pbt": (*FUNCTION, "lr={uniform: [0.1, 1.0]}", "samples=4", "seeds=1", "resources.cpus=1", "measurements=20", "search.algorithm=pbt"),
    "object store": (*FUNCTION, "lr=0.1,0.2,0.3", "seeds=1", "resources.cpus=1", "--out", "file://{folder}/store"),
    "inline": (*FUNCTION, "lr=0.1,0.2,0.3", "seeds=1", "--executor", "inline"),
    "inline in an object store": (*FUNCTION, "lr=0.1,0.2", "seeds=1", "--executor", "inline", "--out", "file://{folder}/store"),
    "stack": (
        "--sweep", "augmentation", "--scale", "smoke", "task.augmentation=none", "seeds=4", "stack=2", "task.precision=fp32", "resources.cpus=1", "latency=none",
        "wandb.mode=disabled", "task.widths=[8]", "task.convolutions=1", "task.dense=8", "task.train_limit=128", "task.val_limit=64", "task.epochs=20",
        "checkpoint_every_s=0.2", "retries=50",
    ),
}  # fmt: skip
VICTIMS = ("driver", "trial", "trial", "raylet", "gcs_server")
MOST_KILLS = 6
"""Kills of one run. The undisturbed run and the last resume take as long as a kill."""

RESULTS = Path(__file__).with_suffix(".json")
"""What each part of the campaign found: a list of objects with its seed and counts."""


def start(arguments: Sequence[str], folder: Path) -> subprocess.Popen:
    """Start the command in `folder`, which marks all its processes."""
    (folder / "walk.py").write_text(WALK)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "DDL_FAULTS": str(folder),
        "OMP_NUM_THREADS": "1",
        "DDL_CACHE": str(folder.parent / "cache"),
    }
    command = [sys.executable, str(ROOT / "launch.py"), *(text.replace("{folder}", str(folder)) for text in arguments)]
    with (folder / "output.txt").open("w") as output:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True)


def living(folder: Path) -> list[psutil.Process]:
    """The processes of the commands in `folder`, those that Ray has started included."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("DDL_FAULTS") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def finish(arguments: Sequence[str], folder: Path) -> None:
    """Run the command to its end."""
    code = start(arguments, folder).wait()
    assert code == 0, (arguments, code, (folder / "output.txt").read_text())


def run_of(folder: Path) -> Path | None:
    """The run in `folder`, if it has begun."""
    ledgers = [*folder.glob("runs/*/*/ledger.sqlite"), *folder.parent.glob("cache/runs/*/*/*/ledger.sqlite")]
    return ledgers[0].parent if ledgers else None


def place_of(name: str, folder: Path) -> str:
    """What to resume: the URL of a run in an object store, else its folder."""
    if "--out" in SWEEPS[name]:
        return "file://" + str(next(folder.glob("store/*/*")))
    return str(run_of(folder))


def outcome(folder: Path) -> dict[str, tuple[object, ...]]:
    """Of each trial of the run in `folder`: status, measurements but for times, and the checksum of its weights, here and in the object store."""
    run, copies = run_of(folder), list(folder.glob("store/*/*"))
    assert run is not None
    reader = LedgerReader(run)
    frame = reader.metrics()
    frame = frame[~frame["name"].str.startswith(("time/", "device/", "latency/"))]
    found = {}
    for trial in reader.trials():
        rows = frame[frame["trial_id"] == trial.trial_id][["step", "name", "value"]].values.tolist()
        assert len({(step, metric) for step, metric, _ in rows}) == len(rows), (run, trial.trial_id, "a step was measured twice")
        found[trial.trial_id] = trial.status, json.dumps(sorted(rows)), *(_weights(each, trial.trial_id) for each in (run, *copies))
    return found


def _weights(run: Path, trial_id: str) -> str:
    """The checksum of a trial's final weights; empty if it has none."""
    newest = checkpoints.newest(run / "trials" / trial_id / "checkpoints", trial_id)
    return _checksum(newest[1]["task"]) if newest else ""


def _checksum(state: object) -> str:
    """The sha256 of the tensors and numbers of a state."""

    def parts(value: object) -> Iterator[bytes]:
        if isinstance(value, torch.Tensor):
            yield value.numpy().tobytes()
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                yield str(key).encode()
                yield from parts(value[key])
        elif isinstance(value, list):
            for item in value:
                yield from parts(item)
        else:
            yield repr(value).encode()

    return hashlib.sha256(b"\0".join(parts(state))).hexdigest()


def kill(victim: str, process: subprocess.Popen, folder: Path) -> bool:
    """Kill the driver, or one process of the kind. Returns False if there is none."""
    if victim == "driver":
        process.kill()
        return True
    for other in living(folder):
        with contextlib.suppress(psutil.Error):
            if other.name() == victim or (victim == "trial" and "ImplicitFunc" in " ".join(other.cmdline())):
                other.kill()
                return True
    return False


def disturb(name: str, folder: Path, chance: random.Random, kills: int) -> Counter[str]:
    """Run a sweep, kill `kills` times at most, and resume it to its end. Returns what was killed. Raises AssertionError if a trial is lost."""
    killed = Counter[str]()
    ended: dict[str, tuple[object, ...]] = {}
    folder.mkdir(parents=True)
    while sum(killed.values()) < kills:
        run = run_of(folder)
        if run and not {"planned", "running"} & {trial.status for trial in LedgerReader(run).trials()}:
            break
        measured = len(LedgerReader(run).metrics()) if run else 0
        process = start(["--resume", place_of(name, folder)] if run else SWEEPS[name], folder)

        def trains(process: subprocess.Popen = process, measured: int = measured) -> bool:
            run = run_of(folder)
            return process.poll() is not None or (run is not None and len(LedgerReader(run).metrics()) > measured)

        wait_until(trains, f"{name} trains")
        victim = "trial"  # which the driver survives
        while victim == "trial" and process.poll() is None and sum(killed.values()) < kills:
            time.sleep(chance.uniform(0, 2))
            victim = "driver" if "inline" in SWEEPS[name] else chance.choice(VICTIMS)
            if process.poll() is None and kill(victim, process, folder):
                killed[f"killed: {victim}"] += 1
        code = process.wait()
        said = (folder / "output.txt").read_text()
        for lease in folder.glob(f"store/*/*/{LEASE}"):  # of the killed driver: it would expire after two minutes
            lease.unlink()
        assert code == {"driver": -signal.SIGKILL, "trial": 0}.get(victim, 1) or code == 0, (name, victim, code, said)
        assert code != 1 or "died (SIGKILL), and all running trials with it. To continue: " in said, (name, victim, said)
        wait_until(lambda: not living(folder), f"all processes of {name} have ended after the end of its {victim}")
        run = run_of(folder)
        assert run is not None
        found = outcome(folder)
        for trial in LedgerReader(run).trials():
            if trial.status in ("finished", "stopped"):
                ended.setdefault(trial.trial_id, (trial.attempts, *found[trial.trial_id]))
    finish(["--resume", place_of(name, folder)], folder)
    run = run_of(folder)
    assert run is not None
    found = outcome(folder)
    after = {trial.trial_id: (trial.attempts, *found[trial.trial_id]) for trial in LedgerReader(run).trials()}
    assert {trial: after[trial] for trial in ended} == ended, (name, "a finished trial has changed or was trained again")
    return killed


def check_like(name: str, found: Mapping[str, Sequence[object]], undisturbed: Mapping[str, Sequence[object]]) -> None:
    """Raise AssertionError if the outcome of a disturbed run is not that of the undisturbed one."""
    if name == "pbt":
        assert {trial[0] for trial in found.values()} == {"finished"}, found
    elif name == "stack":
        assert found.keys() == undisturbed.keys()
        for trial, (status, rows, *_) in found.items():
            expected = json.loads(str(undisturbed[trial][1]))
            assert status == "finished", (trial, status)
            assert [row[:2] for row in json.loads(str(rows))] == [row[:2] for row in expected], trial
            losses = [(row[2], other[2]) for row, other in zip(json.loads(str(rows)), expected, strict=True) if row[1].endswith("loss")]
            assert all(math.isclose(value, other, rel_tol=1e-3) for value, other in losses), (trial, losses)
    else:
        assert found == undisturbed, (name, found, undisturbed)


def check_steps(folder: Path) -> None:
    """Raise AssertionError if a trial of a population lacks the measurement of a step, unless it continued from another one's state there."""
    run = run_of(folder)
    assert run is not None
    reader = LedgerReader(run)
    frame, events = reader.metrics(), reader.events()
    taken_over, changed = set[tuple[str, int]](), dict[str, str]()
    for event in events[events.kind == "started"].itertuples():  # "from step 8 at host, pid 7, changed {...}"
        start, _, now = event.detail.partition("changed ")
        if now != changed.get(event.trial_id, ""):
            taken_over.add((event.trial_id, int(start.split()[2])))
        changed[event.trial_id] = now
    for trial in reader.trials():
        steps = [0, *sorted(frame[(frame.trial_id == trial.trial_id) & (frame.name == "val/loss")].step)]
        assert steps[-1] == 20, (trial.trial_id, steps)
        for before, after in itertools.pairwise(steps):
            assert after == before + 1 or (trial.trial_id, after - 1) in taken_over, (trial.trial_id, steps, taken_over)


def campaign(kills: int, seed: int, folder: Path, names: Sequence[str] = tuple(SWEEPS)) -> Counter[str]:
    """Kill `kills` times in all, in turn in each sweep. Returns how often each kind of process was killed, and the number of runs."""
    chance, done, began = random.Random(seed), Counter[str](), time.monotonic()
    undisturbed = {}
    for number, name in enumerate(itertools.cycle(names)):
        if sum(count for what, count in done.items() if what.startswith("killed")) >= kills:
            return done
        if name not in undisturbed:
            place = folder / f"undisturbed-{name.replace(' ', '-')}" / "work"
            place.mkdir(parents=True)
            finish(SWEEPS[name], place)
            undisturbed[name] = outcome(place)
        place = folder / f"{number}" / "work"
        done += disturb(name, place, chance, chance.randint(1, min(MOST_KILLS, kills)))
        found = outcome(place)
        check_like(name, found, undisturbed[name])
        if name == "pbt":
            check_steps(place)
        done[f"runs of {name}"] += 1
        print(f"{time.monotonic() - began:.0f} s", dict(done), flush=True)
    raise AssertionError("no sweeps")


def main(kills: int = 250, seed: int = SEED, names: Sequence[str] = tuple(SWEEPS)) -> None:
    """A part of the campaign, which is added to `RESULTS` or replaces the part with its seed and sweeps; and the sum of all parts."""
    with tempfile.TemporaryDirectory(prefix="ddl-faults-") as scratch:
        done = campaign(kills, seed, Path(scratch), names)
    parts = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    key = {"seed": seed, "sweeps": list(names)}
    parts = [part for part in parts if {name: part[name] for name in key} != key] + [key | {"counts": dict(sorted(done.items()))}]
    RESULTS.write_text(json.dumps(parts, indent=1) + "\n")
    write_sum(parts)


def write_sum(parts: Sequence[Mapping[str, Any]]) -> None:
    """Write the sum of the parts into the page."""
    total = sum((Counter(part["counts"]) for part in parts), Counter())
    rows = [
        ("seeds", ", ".join(map(str, sorted({part["seed"] for part in parts})))),
        ("killed processes", sum(count for what, count in total.items() if what.startswith("killed"))),
        *sorted(total.items()),
        ("finished trials lost or trained again", 0),
        ("runs that differ from the undisturbed one", 0),
    ]
    write_figures("kills", "Killed processes", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills")
    parser.add_argument("--kills", type=int, default=250)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=tuple(SWEEPS))
    given = parser.parse_args()
    main(given.kills, given.seed, given.sweeps)
