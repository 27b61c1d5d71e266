"""Keeps the trials of one process apart: seeds, settings of the process, threads and child processes."""

import gc
import os
import random
import signal
import sys
import threading
from contextlib import suppress
from typing import Self

import numpy as np
import psutil

from ddl.devices import Device, derive_seed, seed_generators
from ddl.sweeps.process_settings import KeptSettings

CHILD_END_S = 1.0
"""Seconds that a child process has to end after SIGTERM."""

SHARED_CHILDREN = ("_inductor/compile_worker", "multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Parts of the command lines of processes that libraries start once for all trials of a process."""


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
        self._threads, self._children = set(threading.enumerate()), _child_ids()
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


def _child_ids() -> set[int]:
    """The process ids of this process's children."""
    if sys.platform == "linux":
        try:  # listing children takes some milliseconds, and most processes have none
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return set()
    return {child.pid for child in psutil.Process().children()}


def end_children(earlier: set[int]) -> list[str]:
    """End the children that are not in `earlier`, with all that they have started, and return their command lines."""
    if not _child_ids() - earlier:
        return []
    gc.collect()  # a data loader that nobody uses any more ends its processes itself
    trees: list[psutil.Process] = []
    commands: list[str] = []
    for pid in sorted(_child_ids() - earlier):
        command = _command(pid)
        if command and not any(part in command for part in SHARED_CHILDREN):
            commands.append(command[:100])
            with suppress(psutil.NoSuchProcess):
                child = psutil.Process(pid)
                trees += [child, *child.children(recursive=True)]
    for process in trees:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(trees, CHILD_END_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return commands


def end_process() -> None:
    """End this process and all its children at once. Python's own ways would wait for the thread that hangs."""
    end_children(set())
    os.kill(os.getpid(), signal.SIGKILL)


def _command(pid: int) -> str:
    """The command line of a process. Empty if it has ended, also if nobody has waited for it yet."""
    with suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""
