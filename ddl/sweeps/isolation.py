"""Keeps the trials of one process apart: seeds, settings of the process, threads and child processes."""

import random
import threading
from typing import Self

import numpy as np

from ddl.devices import Device, derive_seed, seed_generators
from ddl.sweeps.child_processes import child_ids, end_children
from ddl.sweeps.process_settings import KeptSettings


def seed_process(seed: int, step: int, device: Device) -> None:
    """Seed torch, numpy and `random` for a trial that starts from `step`, so that a task that seeds nothing is repeatable.

    All processes of a trial get the same seed: its weights and the order of its examples must not depend on the rank.
    """
    derived = derive_seed(seed, "process", step)
    seed_generators(derived)
    np.random.seed(derived)
    random.seed(derived)


class Isolation(KeptSettings):
    """A context manager around a trial, whose end restores `KeptSettings`, and ends the child processes that the trial started.

    Threads cannot be ended, so those that would also keep the process from ending are named.
    """

    def __enter__(self) -> Self:
        self._restored = False
        self._threads, self._children = set(threading.enumerate()), child_ids()
        return super().__enter__()

    def restore(self) -> str:
        """Restore the process after the trial. Returns as one line what the trial has left behind, or an empty string."""
        self._restored = True
        problems = self.restore_settings()
        if threads := [thread.name for thread in set(threading.enumerate()) - self._threads if not thread.daemon and thread.is_alive()]:
            problems.append(f"threads that still run: {', '.join(sorted(threads))}")
        if ended := end_children(self._children):
            problems.append(f"child processes, which were ended: {', '.join(ended)}")
        return "; ".join(problems)

    def __exit__(self, *exception: object) -> None:
        if not self._restored:
            self.restore()
