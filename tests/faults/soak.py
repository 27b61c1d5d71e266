"""Soak: small sweeps one after another in one process, as in a notebook that is open for days, with a table of what grows.

Command: `python -m tests.faults.soak --hours 2`. After each round it samples the memory, file descriptors and threads of the process, the
processes that it started and that still live, and the bytes in its folder for temporary files and in shared memory.
"""

import argparse
import contextlib
import gc
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from .figures import write_figures

MARK = "DDL_SOAK"
FUNCTION = """
from ddl import Progress

def train(lr: float, *, seed: int, resume=None):
    for step in range(1, 21):
        yield Progress(step=step, total_steps=20, metrics={"val/loss": lr / step}, state=lambda step=step: {"step": step})
"""
SWEEP = ("lr=0.1,0.2,0.3", "seeds=2", "wandb.mode=disabled")
ROUNDS: Mapping[str, Mapping[str, str]] = {
    "inline": {"executor": "inline", "out": "runs"},
    "Ray": {"executor": "ray", "out": "runs"},
    "object store": {"executor": "inline", "out": "file://{folder}/store"},
}
ALLOWED = {"MB of memory": 0.05}
"""Growth between the second and the last quarter that counts as flat, as a fraction. Of other samples: none."""


def sample(folder: Path) -> dict[str, float]:
    """What the process holds after a round. `folder` is its folder for temporary files."""
    gc.collect()
    process = psutil.Process()
    return {
        "MB of memory": process.memory_info().rss / 1e6,
        "file descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "other processes": len(_others()),
        "MB of temporary files": _size(folder) / 1e6,
        "MB of shared memory": _size(Path("/dev/shm"), own=True) / 1e6,
    }


def _others() -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == os.environ[MARK] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def _size(folder: Path, own: bool = False) -> int:
    """Bytes of the files below a folder; `own`: of those that this process or one that it started has open."""
    total = 0
    opened = (
        {os.path.realpath(f"/proc/{pid}/fd/{number}") for pid in [os.getpid(), *_others()] for number in _open_files(pid)} if own else set()
    )
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and (not own or str(path) in opened):
                total += path.stat().st_size
    return total


def _open_files(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(f"/proc/{pid}/fd")
    return []


def verdict(what: str, values: Sequence[float]) -> str:
    """First, middle and last value, and if they grow: the second quarter is compared with the last one, because caches fill first."""
    quarter = max(len(values) // 4, 1)
    second, last = statistics.median(values[quarter : 2 * quarter] or values), statistics.median(values[-quarter:])
    grows = last > second * (1 + ALLOWED.get(what, 0)) + 1e-9
    return f"{values[0]:.4g}, {second:.4g}, {last:.4g}: {'GROWING' if grows else 'flat'}"


def soak(ended: Callable[[], bool], folder: Path, train: Callable[[Mapping[str, str]], object]) -> tuple[int, dict[str, list[float]]]:
    """Rounds of all sweeps until `ended`. Returns the number of sweeps, and the samples after each round."""
    samples: dict[str, list[float]] = {}
    sweeps = 0
    while not ended():
        for options in ROUNDS.values():
            train(options)
            sweeps += 1
        for what, value in sample(folder).items():
            samples.setdefault(what, []).append(value)
        print(f"{sweeps} sweeps", {what: round(values[-1], 2) for what, values in samples.items()}, flush=True)
    return sweeps, samples


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--hours", type=float, default=2.0)
    hours = parser.parse_args().hours
    place = Path(tempfile.mkdtemp(prefix="k", dir="/tmp"))  # short: Ray's sockets have long names
    temporary, work = place / "t", place / "work"
    temporary.mkdir()
    work.mkdir()
    os.environ |= {MARK: str(place), "TMPDIR": str(temporary), "DDL_CACHE": str(place / "cache")}
    tempfile.tempdir = None
    os.chdir(work)
    (work / "soak_train.py").write_text(FUNCTION)
    from ddl import run
    from ddl.run_training import SweepStopped

    stops: list[str] = []

    def train(options: Mapping[str, str]) -> None:
        out = options["out"].replace("{folder}", str(work))
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                done = run.run_sweep("soak_train.py:train", [*SWEEP, "metric=val/loss"], executor=options["executor"], out=out)
            assert not done.failed
        except SweepStopped as stopped:  # Ray does not start on a machine that is too busy
            stops.append(str(stopped))
        for made in ("runs", "store", "../cache"):
            shutil.rmtree(work / made, ignore_errors=True)

    end = time.monotonic() + hours * 3600
    try:
        sweeps, samples = soak(lambda: time.monotonic() > end, temporary, train)
    finally:
        os.chdir("/")
        shutil.rmtree(place, ignore_errors=True)
    rows = [
        ("hours", f"{hours:g}"),
        ("sweeps", sweeps),
        ("sweeps that stopped because Ray did not start within 30 s", len(stops)),
        *((f"{what}: first, second quarter, last quarter", verdict(what, values)) for what, values in samples.items()),
    ]
    write_figures("soak", "Soak", rows)
    for what, value in rows:
        print(what, value)


if __name__ == "__main__":
    main()
