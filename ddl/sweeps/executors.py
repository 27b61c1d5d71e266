"""Where trials run: what an executor is, and the one that needs nothing (the other is in ray_tune.py).

Both run `worker.run_trial`, so both give the same numbers.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import psutil
import torch

from ddl.precision import TimingProbe
from ddl.sweeps.worker import Assignment, device_of, run_trial, time_trial
from ddl.trial_report import TrialReport


@dataclass(frozen=True)
class Capacity:
    """What a trial can be given: the most that one node has (`node_...`), and what all have together."""

    nodes: int
    cpus: int
    gpus: int
    node_cpus: int
    node_gpus: int


class Executor(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def capacity(self) -> Capacity: ...

    def probe(self, assignments: Sequence[Assignment], precisions: list[str] | None) -> list[list[TimingProbe]]:
        """`worker.probe_trial` of each, all at once where there is room, so that they are timed under a sweep's load."""
        ...

    def run(self, assignments: Iterable[Assignment], concurrent: int | None) -> Iterator[TrialReport]:
        """Run all, at most `concurrent` at a time (None: as many as there is room for); each report is taken to be recorded when
        the next is asked for.

        An assignment is taken when there is room for it, by the thread that takes the reports: so it may depend on all that
        was reported before. Closing the iterator stops the trials.
        """
        ...


def local_capacity() -> Capacity:
    """Of this machine: the cores this process may use, and its CUDA devices."""
    affinity = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else None
    cpus = len(affinity) if affinity else os.cpu_count() or 1
    gpus = torch.cuda.device_count()
    return Capacity(1, cpus, gpus, cpus, gpus)


class InlineExecutor:
    """One trial after the other, in this process."""

    def __enter__(self) -> Self:
        self._threads = torch.get_num_threads()
        self._visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        self._random = torch.get_rng_state()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        torch.set_num_threads(self._threads)
        torch.set_rng_state(self._random)
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if self._visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self._visible

    def capacity(self) -> Capacity:
        here = local_capacity()
        return Capacity(1, here.cpus, min(here.gpus, 1), here.cpus, min(here.gpus, 1))

    def probe(self, assignments: Sequence[Assignment], precisions: list[str] | None) -> list[list[TimingProbe]]:
        return [time_trial(assignment, precisions) for assignment in assignments]

    def run(self, assignments: Iterable[Assignment], concurrent: int | None) -> Iterator[TrialReport]:
        for assignment in assignments:
            yield from run_trial(assignment, device_of(assignment))
