"""Timings of earlier plans, kept in the cache: a sweep that was planned a while ago starts without timing anything again."""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ddl import provenance
from ddl.data.cache import cache_folder
from ddl.durable import replace_file
from ddl.sweeps.capacity import Capacity
from ddl.sweeps.executors import Prober
from ddl.sweeps.pack import Pack
from ddl.telemetry.describe import usable_cores
from ddl.timings import Timings

FOLDER = "timings"
"""Name of their folder in the cache."""

HOLD_S = 24 * 3600.0
"""Seconds for which timings hold. What shares the machine changes, and a day's work should not begin with yesterday's."""

_SETTINGS = (
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "ONEDNN_",
    "DNNL_",
    "ATEN_",
    "CUDA_",
    "CUBLAS_",
    "PYTORCH_",
    "TORCH_",
    "LD_PRELOAD",
    "DDL_DATA",
)
"""Beginnings of environment variables that change how fast a step is, or which data it trains on."""

_TIMINGS = TypeAdapter(list[Timings])


class KnownTimings:
    """Answers `probe` with the timings of an earlier plan if it timed the same: equal hyperparameters but for the seeds, resources, code of
    ddl, package versions, hardware and prepared data. Otherwise asks the executor, and keeps what it answers.

    Tasks of the user's own are always timed, because what they read is not known; so are those that read the user's files. Timings of
    processes that failed, died or hung are not kept. `oldest_s` is the age of the oldest timings that were used, in seconds, or None.
    """

    def __init__(self, executor: Prober, recall: bool = True) -> None:
        """`recall`: use earlier timings. If not, all is timed, and replaces what was kept."""
        self._executor, self._recall = executor, recall
        self.oldest_s: float | None = None

    @cached_property
    def _surroundings(self) -> list[Any]:
        """Everything that timings depend on, apart from the packs. As it is before the first probe, which may change this process's variables."""
        settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
        return [type(self._executor).__name__, _code(), provenance.versions(), provenance.host(), usable_cores(), settings]

    def capacity(self) -> Capacity:
        """See `Executor.capacity`."""
        return self._executor.capacity()

    def probe(self, packs: Sequence[Pack], precisions: list[str] | None, window_s: float) -> list[Timings]:
        """See `Executor.probe`."""
        if not all(_is_known_code(pack) for pack in packs):
            return self._executor.probe(packs, precisions, window_s)
        content = [self._surroundings, _prepared_data(), [_content(pack) for pack in packs], precisions, window_s]
        key = hashlib.sha256(json.dumps(content, sort_keys=True, default=asdict).encode()).hexdigest()
        path = cache_folder(FOLDER) / f"{key}.json"
        if self._recall and (found := _read(path)):
            timings, age_s = found
            self.oldest_s = max(age_s, self.oldest_s or 0.0)
            return timings
        timings = self._executor.probe(packs, precisions, window_s)
        if not any(each.traceback or "" in each.failures for each in timings):
            # The next plan only takes longer if they cannot be kept.
            with contextlib.suppress(OSError):
                _keep(path, timings)
        return timings


def forget_timings() -> None:
    """Remove all timings, so that the next plan takes them again."""
    shutil.rmtree(cache_folder(FOLDER), ignore_errors=True)


@cache
def _code() -> str:
    """SHA-256 of the package's sources."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _prepared_data() -> list[tuple[str, int]]:
    """Name and time of what is prepared: with more of it, a trial may have more steps."""
    root = cache_folder("")
    prepared = [path for pattern in ("*/*.safetensors", "*/files-*", "*/sample-*") for path in root.glob(pattern)]
    return sorted((str(path.relative_to(root)), path.stat().st_mtime_ns) for path in prepared)


def _is_known_code(pack: Pack) -> bool:
    return all(type(member.task).__module__.startswith("ddl.") and not member.task.files() for member in pack.members)


def _content(pack: Pack) -> list[Any]:
    """Properties of a pack that its timings depend on."""
    first = pack.first
    tasks = []
    for task in (member.task for member in pack.members):
        values = {item.name: getattr(task, item.name) for item in fields(task) if item.name != "seed"}
        tasks.append([type(task).__module__, type(task).__qualname__, values])
    return [tasks, first.num_workers, first.strategy, first.cpus, first.gpus, pack.longest_step_s]


def _read(path: Path) -> tuple[list[Timings], float] | None:
    """(the timings in a file, their age in seconds), or None if there are none that hold."""
    try:
        status = path.stat()
        age_s = time.time() - status.st_mtime
        if status.st_uid != os.getuid() or not 0 <= age_s <= HOLD_S:
            return None
        return _TIMINGS.validate_json(path.read_bytes(), strict=True), age_s
    except (OSError, ValidationError):
        return None


def _keep(path: Path, timings: Sequence[Timings]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in _files_that_do_not_hold(path.parent):
        old.unlink(missing_ok=True)
    replace_file(path, json.dumps([asdict(each) for each in timings]).encode())


def _files_that_do_not_hold(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            if time.time() - path.stat().st_mtime > HOLD_S:
                yield path
