"""Reads a trial's devices once a second, beside it."""

import threading
import time
from collections.abc import Callable
from copy import deepcopy
from types import TracebackType
from typing import Self

from ddl.devices import Device
from ddl.progress import State
from ddl.telemetry.cpu import ProcessTree
from ddl.telemetry.nvml import find_gpu, gpu_uuid
from ddl.telemetry.usage import Usage

EVERY_S = 1.0

STOP_S = 1.0
"""How long the end of a trial waits for the last reading. A driver that has lost its GPU may never answer."""


class DeviceSampler:
    """A context manager around a trial. It asks the driver in a thread of its own: a trial is neither failed nor slowed by it.

    Of several workers each has one. Energy is that of all of them, utilisation the mean over them, memory and temperature
    the first worker's.
    """

    def __init__(
        self,
        device: Device,
        cores: int,
        share: float,
        before: Usage,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`cores` and `share` (of one GPU) are what the worker was given, `before` what earlier attempts used."""
        self._device, self._cores, self._share, self._usage = device, cores, share, before
        self._every_s, self._clock = every_s, clock
        self._uuid = gpu_uuid(device.torch)
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="device-sampler", daemon=True)

    def __enter__(self) -> Self:
        self._at = self._clock()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join(STOP_S)

    def metrics(self) -> dict[str, float]:
        """`device/...` so far, to the second; to the last moment once the context is left. Each of several workers has to ask."""
        return self._so_far().averaged(self._device).figures(self._device.world_size)

    def state(self) -> State:
        """For a checkpoint: each worker gets the mean over all back, of which the sum is what all had used."""
        return self._so_far().averaged(self._device).state()

    def _so_far(self) -> Usage:
        with self._lock:
            usage = deepcopy(self._usage)
            usage.seconds += self._clock() - self._at
        return usage

    def _run(self) -> None:
        cpu = ProcessTree(self._cores, self._clock())
        gpu = find_gpu(self._uuid, self._share) if self._uuid else None
        last = False
        while True:
            now = self._clock()
            reading = cpu.read(now, last) | (gpu.read(now) if gpu else {})
            with self._lock:
                self._usage.add(reading, now - self._at)
                self._at = now
            if last:
                break
            last = self._stopped.wait(self._every_s)
        if gpu:
            gpu.close()
