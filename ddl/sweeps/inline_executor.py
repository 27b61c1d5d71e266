"""The executor that trains in this process, without Ray."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

from ddl.devices import Device
from ddl.gpus import machine_gpus
from ddl.sweeps.assignment import Assignment, device_of
from ddl.sweeps.capacity import Capacity, Node, local_capacity
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe import time_pack
from ddl.sweeps.probe_limits import PROBE_STALL_S
from ddl.sweeps.process_settings import KeptSettings, working_directory
from ddl.sweeps.run_pack import run_pack
from ddl.timings import Timings
from ddl.trial_errors import raise_interrupt
from ddl.trial_report import TrialReport


class InlineExecutor:
    """Runs one pack after another in this process, on one GPU at most. Restores the process's settings and random states on exit; freed memory
    stays with the process (`ddl.allocator`).

    The process cannot be ended, so a trial that exceeds a time limit outside Python, such as in a kernel, is not stopped.
    """

    def __init__(self, probe_stall_s: float = PROBE_STALL_S) -> None:
        """`probe_stall_s` as `stall_s` in `time_pack`."""
        self._probe_stall_s = probe_stall_s
        self._kept = KeptSettings(random_states=True)

    def __enter__(self) -> Self:
        self._kept.__enter__()
        # A trial may raise KeyboardInterrupt too.
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, raise_interrupt)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._kept.__exit__()

    def get_ready(self) -> None:
        """See `Executor.get_ready`. Nothing has to start."""

    def capacity(self) -> Capacity:
        """All cores of this machine, and one usable GPU if it has any."""
        machine = local_capacity()
        return replace(machine, nodes=(Node(machine.cpus, min(machine.gpus, 1)),))

    def gpu_problems(self) -> list[str]:
        """See `Executor.gpu_problems`. The capacity has usable GPUs only."""
        return []

    def probe(self, packs: Sequence[Pack], precisions: list[str] | None, window_s: float) -> list[Timings]:
        """`probe.time_pack` of each pack, one after another."""
        return [time_pack(pack, self.device(pack.first), precisions, window_s, stall_s=self._probe_stall_s) for pack in packs]

    def run(self, packs: Iterable[Pack], concurrent: int | None) -> Iterator[Sequence[TrialReport]]:
        """See `Executor.run`. `concurrent` has no effect."""
        own = os.getcwd()
        for pack in packs:
            for reports in run_pack(pack, self.device(pack.first)):
                trials = working_directory()
                os.chdir(own)  # paths of the consumer may be relative
                yield reports
                with suppress(OSError):  # the trial removed it
                    os.chdir(trials)

    @staticmethod
    def device(assignment: Assignment) -> Device:
        """The CPU, or the first usable GPU: this process sees all GPUs, also those that are not usable."""
        # Not hidden: the next pack may need the GPU.
        return device_of(assignment, machine_gpus().usable[0].index if assignment.gpus else 0, hide=False)
