"""Reads a trial's CPU, memory and GPU usage once a second, in a thread."""

import threading
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Self

import torch

from ddl.devices import Device
from ddl.telemetry.cpu import ProcessTree
from ddl.telemetry.gpu import find_gpu
from ddl.telemetry.nvml import gpu_uuid
from ddl.telemetry.usage import Usage

EVERY_S = 1.0  # seconds between readings
STOP_S = 1.0
"""Seconds that the end of a trial waits for the last reading. The driver of a lost GPU may never answer."""


class DeviceSampler:
    """Samples device usage during a trial (a context manager). It runs in a thread, so it can neither fail nor slow the trial.

    Each of several workers has its own sampler. Energy is the sum over workers, utilisation the mean, memory and temperature
    are the first worker's.

    GPU memory has two figures: `gpu_process_memory_peak_mb` with CUDA's context and memory that PyTorch's allocator keeps without use,
    and `gpu_allocated_peak_mb`, the memory of tensors at its peak. If the process has run other trials before, both are this trial's
    because `ddl.precision_setup.prepare_process` empties the allocator and resets its peak.
    """

    def __init__(
        self,
        device: Device,
        cores: int,
        gpu_fraction: float,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`cores` and `gpu_fraction` (of one GPU) are the worker's allocation."""
        self._device, self._cores, self._gpu_fraction, self._usage = device, cores, gpu_fraction, Usage()
        self._every_s, self._clock = every_s, clock
        self._uuid = gpu_uuid(device.torch)
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="device-sampler", daemon=True)

    def __enter__(self) -> Self:
        self._read_at = self._clock()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join(STOP_S)

    def usage(self) -> Usage:
        """Usage so far, as the mean over the trial's workers, so that each resumes with an equal part. All workers must call this."""
        with self._lock:
            usage = deepcopy(self._usage)
            if not self._stopped.is_set():  # what comes after is no part of the trial
                usage.seconds += self._clock() - self._read_at
        return usage.averaged(self._device)

    def _run(self) -> None:
        cpu = ProcessTree(self._cores, self._clock())
        gpu = find_gpu(self._uuid, self._gpu_fraction) if self._uuid else None
        last = False
        while True:
            now = self._clock()
            reading = cpu.read(now, last) | (gpu.read(now) if gpu else {})
            if self._device.torch.type == "cuda":
                reading["gpu_allocated_peak_mb"] = torch.cuda.max_memory_allocated(self._device.torch) / 1e6
            with self._lock:
                self._usage.add(reading, now - self._read_at)
                self._read_at = now
            if last:
                break
            last = self._stopped.wait(self._every_s)
        if gpu:
            gpu.close()
