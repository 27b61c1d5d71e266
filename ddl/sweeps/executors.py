"""Executors run trials. This module has their protocol and the inline executor; the other one is in ray_tune.py.

Both run `worker.run_trial`, so both give the same numbers.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import psutil
import torch

from ddl.precision import TimingProbe
from ddl.sweeps.worker import Assignment, device_of, run_trial, time_trial
from ddl.trial_report import TrialReport


@dataclass(frozen=True)
class Capacity:
    """CPU cores and GPUs of all nodes together, and of the largest node (`node_...`)."""

    nodes: int
    cpus: int
    gpus: int
    node_cpus: int
    node_gpus: int


class Executor(Protocol):
    """Runs trials. A context manager: trials run only inside the `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: Any) -> None: ...

    def capacity(self) -> Capacity:
        """The resources that trials can use."""

    def probe(self, assignments: Sequence[Assignment], precisions: list[str] | None) -> list[list[TimingProbe]]:
        """`worker.time_trial` of each assignment, in parallel if possible, so that they are timed under the load of a sweep."""

    def run(self, assignments: Iterable[Assignment], concurrent: int | None) -> Iterator[TrialReport]:
        """Run all trials, at most `concurrent` at a time (None: as many as fit), and yield their reports.

        Asking for the next report confirms that the last one is recorded. The iterable of assignments is advanced when there is
        room for a trial, in the thread that consumes the reports, so it may depend on all earlier reports. Closing the iterator
        stops the trials.
        """


def local_capacity() -> Capacity:
    """Capacity of this machine: the cores that this process may use, and its CUDA devices."""
    affinity = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else None
    cpus = len(affinity) if affinity else os.cpu_count() or 1
    gpus = torch.cuda.device_count()
    return Capacity(nodes=1, cpus=cpus, gpus=gpus, node_cpus=cpus, node_gpus=gpus)


class InlineExecutor:
    """Runs one trial after another in this process, on one GPU at most. Restores the process's torch state on exit."""

    def __enter__(self) -> Self:
        self._threads = torch.get_num_threads()
        self._visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        self._random = torch.get_rng_state()
        return self

    def __exit__(self, *exception: Any) -> None:
        torch.set_num_threads(self._threads)
        torch.set_rng_state(self._random)
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if self._visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self._visible

    def capacity(self) -> Capacity:
        """All cores of this machine, and one GPU if it has any."""
        machine = local_capacity()
        gpus = min(machine.gpus, 1)
        return Capacity(nodes=1, cpus=machine.cpus, gpus=gpus, node_cpus=machine.cpus, node_gpus=gpus)

    def probe(self, assignments: Sequence[Assignment], precisions: list[str] | None) -> list[list[TimingProbe]]:
        """`worker.time_trial` of each assignment, one after another."""
        return [time_trial(assignment, precisions) for assignment in assignments]

    def run(self, assignments: Iterable[Assignment], concurrent: int | None) -> Iterator[TrialReport]:
        """See `Executor.run`. `concurrent` has no effect."""
        for assignment in assignments:
            yield from run_trial(assignment, device_of(assignment))
