"""Timing probes in processes on this machine, without Ray."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from ddl import fork_client
from ddl.python_path import python_path
from ddl.sweeps import probe_process
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe_limits import MEETING_S
from ddl.timings import Timings

NICENESS = 15
"""Priority of the processes: that of Ray's workers, which train the trials."""

DIED = "the process that timed it died; launch.log may say why"


def probe_on_this_machine(
    packs: Sequence[Pack],
    precisions: list[str] | None,
    window_s: float,
    stall_s: float,
    gpus: Sequence[str],
    before_timing: Callable[[], None],
) -> tuple[list[Timings], list[int]]:
    """`time_pack` of all packs at once, each in a process of its own: (the timings of each pack, the packs whose process died).

    The timed steps of all begin together, when `before_timing` has returned. A process that hangs has timings that say so. `gpus` names
    this machine's usable GPUs, as CUDA_VISIBLE_DEVICES does.
    """
    with contextlib.ExitStack() as contexts:
        connections = [
            contexts.enter_context(_process(process_variables(pack, number, gpus), (pack, precisions, window_s, stall_s)))
            for number, pack in enumerate(packs)
        ]
        answers = _answers(connections, before_timing)
    timings = [answer if isinstance(answer, Timings) else Timings([], {"": answer or DIED}) for answer in answers]
    return timings, [number for number, answer in enumerate(answers) if answer is None]


def process_variables(pack: Pack, number: int, gpus: Sequence[str]) -> dict[str, str]:
    """Environment variables of the process with this number: where it finds the modules of the user, and what it gets of the machine."""
    found = {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": str(pack.first.cpus)}
    if pack.first.gpus:
        sharing = int(1 / pack.first.gpus + 1e-9)
        found["CUDA_VISIBLE_DEVICES"] = gpus[number // sharing]
    return found


@contextlib.contextmanager
def _process(variables: dict[str, str], message: Any) -> Iterator[Connection]:
    """A connection to a new process of `probe_process` that was sent this message. The process ends with the context."""
    ours, theirs = Pipe()
    with ours:
        with theirs:
            files = [theirs.fileno()]
            group = fork_client.fork([probe_process.__file__], variables, files)
            process = None if group else _start(variables, files)
        group = process.pid if process else group
        try:
            with contextlib.suppress(ProcessLookupError, BrokenPipeError):  # it has died, as `_answers` will find
                os.setpriority(os.PRIO_PROCESS, group, NICENESS)
                ours.send(message)
            yield ours
        except BaseException:
            _kill(group)
            raise
        finally:
            if process:
                _kill(group)
                process.wait()


def _start(variables: dict[str, str], files: Sequence[int]) -> subprocess.Popen:
    """Start the process where there is no fork server."""
    command = [sys.executable, "-P", "-m", probe_process.__name__, *map(str, files)]
    return subprocess.Popen(command, env=os.environ | variables, pass_fds=files, process_group=0)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _answers(connections: Sequence[Connection], before_timing: Callable[[], None]) -> list[Timings | str | None]:
    """The last message of each process: its timings, what a process that hangs says, or None of one that died."""
    answers: list[Timings | str | None] = [None] * len(connections)
    running, ready = {connection: number for number, connection in enumerate(connections)}, set[Connection]()
    deadline, begun = float("inf"), False
    while running:
        patience = None if begun or not ready else max(deadline - time.monotonic(), 0)
        for connection in wait(list(running), patience):
            assert isinstance(connection, Connection)
            try:
                answer = connection.recv()
            except (EOFError, OSError):
                answer = None
            if answer == probe_process.READY:
                ready.add(connection)
                deadline = min(deadline, time.monotonic() + MEETING_S)
            else:
                answers[running.pop(connection)] = answer
                ready.discard(connection)
        if ready and (begun or len(ready) == len(running) or time.monotonic() >= deadline):
            if not begun:
                before_timing()
                begun = True
            for connection in ready:
                with contextlib.suppress(OSError):  # it died meanwhile
                    connection.send(None)
            ready.clear()
    return answers
