"""The executor that runs ask for. It is imported late: meanwhile the fork server imports the same."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ddl.fork_server import fork_server
from ddl.sweeps.prepare import PreparedRun

if TYPE_CHECKING:
    from ddl.sweeps.executors import Executor

TRAINED_WITH = ("torch._dynamo", "ddl.sweeps.run_pack", "ddl.sweeps.probe")
"""Modules that every process that trains needs: constructing an optimiser imports the first one."""

IMPORTED_BY_RAY = ("pandas", "pyarrow.fs", "requests")
"""Modules that every worker of Ray's imports."""


@contextlib.contextmanager
def open_executor(runs: Sequence[PreparedRun], scratch: Path, trains: bool = True) -> Iterator[Executor]:
    """The executor that all `runs` asked for. `scratch` is an existing folder for its temporary files. `trains`: not only for a plan."""
    first = runs[0]
    if first.executor == "inline":
        from ddl.sweeps.inline_executor import InlineExecutor

        with InlineExecutor(_probe_stall_s(runs)) as inline:
            yield inline
        return
    if first.address is not None:
        with _ray_executor(runs, scratch, None) as cluster:
            yield cluster
        return
    modules = {run.about["task_class"].rpartition(".")[0] for run in runs}
    ours = sorted(name for name in modules if name.startswith("ddl."))  # others may not be made for forks
    with fork_server([*TRAINED_WITH, *(IMPORTED_BY_RAY if trains else ()), *ours]) as setup_worker:
        from ddl.sweeps.private_executor import PrivateExecutor

        with PrivateExecutor(partial(_ray_executor, runs, scratch, setup_worker), _probe_stall_s(runs)) as private:
            yield private


def _probe_stall_s(runs: Sequence[PreparedRun]) -> float:
    from ddl.sweeps.probe_limits import PROBE_STALL_S

    return max(PROBE_STALL_S if run.launch.stall_timeout_s == "none" else run.launch.stall_timeout_s for run in runs)


def _ray_executor(runs: Sequence[PreparedRun], scratch: Path, setup_worker: Path | None) -> Executor:
    from ddl.sweeps import ray_schedulers
    from ddl.sweeps.ray_tune import RayExecutor

    first = runs[0]
    # Several sweeps in one queue have no scheduler; `ddl.run` refuses one.
    scheduler = (
        ray_schedulers.InOrder()
        if len(runs) > 1
        else ray_schedulers.make_scheduler(first.launch, first.metric, first.population, first.history)
    )
    # A script or a notebook is no module that workers could import: what it defines is sent with the trials.
    packages = {"ddl"} | {name for run in runs for name in run.packages if name in sys.modules and name != "__main__"}
    retries = max(run.launch.retries for run in runs)
    return RayExecutor(first.address, retries, scratch, scheduler, packages, setup_worker, _probe_stall_s(runs))
