"""Child processes that trials have started."""

import gc
import os
import signal
import sys
from contextlib import suppress

import psutil

CHILD_END_S = 1.0
"""Seconds that a child process has to end after SIGTERM."""

SHARED_CHILDREN = ("_inductor/compile_worker", "multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Parts of the command lines of processes that libraries start once for all trials of a process."""


def child_ids() -> set[int]:
    """The process ids of this process's children."""
    if sys.platform == "linux":
        try:  # listing children takes some milliseconds, and most processes have none
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return set()
    return {child.pid for child in psutil.Process().children()}


def end_children(earlier: set[int]) -> list[str]:
    """End the children that are not in `earlier`, with all that they have started, and return their command lines."""
    if not child_ids() - earlier:
        return []
    gc.collect()  # a data loader that nobody uses any more ends its processes itself
    trees: list[psutil.Process] = []
    commands: list[str] = []
    for pid in sorted(child_ids() - earlier):
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
