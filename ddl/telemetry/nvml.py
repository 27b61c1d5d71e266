"""What a GPU says of itself, through NVML. What it does not say is left out: no error of NVML's leaves this module."""

import math
import os
from typing import Any

import pynvml
import torch

MILLIJOULES_PER_WH = 3.6e6


def gpu_uuid(device: torch.device) -> str | None:
    """What NVML knows the device by; None for a CPU, and where CUDA does not work, which the trial will say itself."""
    if device.type != "cuda":
        return None
    try:
        return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    except (RuntimeError, AssertionError):  # torch asserts that it was built with CUDA
        return None


def find_gpu(uuid: str, share: float) -> "Gpu | None":
    """The GPU with this UUID; None without a driver. A part of a GPU (MIG) has another kind of UUID and is not found."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return Gpu(pynvml.nvmlDeviceGetHandleByUUID(uuid), share)
    except pynvml.NVMLError:
        pynvml.nvmlShutdown()
        return None


class Gpu:
    """A GPU of which the part `share` is the trial's: so much of its utilisation and energy is.

    Where several trials share a GPU, NVML cannot tell whose work it did; each is given its share of all, also while others
    are idle. Memory and temperature are not divided.
    """

    def __init__(self, handle: Any, share: float):
        self._handle, self._share = handle, share
        self._energy: tuple[float, float] | None = None
        self._samples: list[Any] = []
        self._sampled = False
        try:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            self._counts = True
        except pynvml.NVMLError:
            self._counts = False
        try:
            if pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                self._samples = [pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()]
        except pynvml.NVMLError:
            pass  # the driver is too old to be asked

    def read(self, now: float) -> dict[str, float]:
        """Figures by name, those that can be had; `energy_wh` and `gpu_sm_activity_percent` of the time since the reading before."""
        measures = {
            "energy_wh": self._energy_wh,
            "gpu_utilisation_percent": self._utilisation_percent,
            "gpu_sm_activity_percent": self._sm_activity_percent,
            "gpu_memory_peak_mb": self._memory_mb,
            "gpu_process_memory_peak_mb": self._process_memory_mb,
            "gpu_temperature_max_celsius": self._temperature_celsius,
        }
        found = {}
        for name, measure in measures.items():
            try:
                value = measure(now)
            except pynvml.NVMLError:  # not supported there, or the GPU is gone
                continue
            if value is not None and math.isfinite(value):
                found[name] = value
        return found

    def close(self) -> None:
        try:
            for sample in self._samples:
                pynvml.nvmlGpmSampleFree(sample)
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            pass  # a driver that is gone holds nothing

    def _energy_wh(self, now: float) -> float | None:
        """By the GPU's own counter (Volta and later), else from its power by the trapezoid rule."""
        ask = pynvml.nvmlDeviceGetTotalEnergyConsumption if self._counts else pynvml.nvmlDeviceGetPowerUsage
        value = ask(self._handle)  # mJ, or mW
        before, self._energy = self._energy, (now, value)
        if before is None:
            return None
        millijoules = value - before[1] if self._counts else (value + before[1]) / 2 * (now - before[0])
        return self._share * millijoules / MILLIJOULES_PER_WH

    def _utilisation_percent(self, now: float) -> float:
        """How much of the last second (or less) some kernel ran, however little of the GPU that filled."""
        return self._share * pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu

    def _sm_activity_percent(self, now: float) -> float | None:
        """How many of the multiprocessors were busy, by GPM (Hopper and later): what utilisation is taken for."""
        if not self._samples:
            return None
        before, after = self._samples
        pynvml.nvmlGpmSampleGet(self._handle, after)
        self._samples, begun, self._sampled = [after, before], self._sampled, True
        if not begun:
            return None
        asked = pynvml.c_nvmlGpmMetricsGet_t(version=pynvml.NVML_GPM_METRICS_GET_VERSION, numMetrics=1, sample1=before, sample2=after)
        metric = asked.metrics[0]
        metric.metricId = pynvml.NVML_GPM_METRIC_SM_UTIL
        pynvml.nvmlGpmMetricsGet(asked)
        return self._share * metric.value if metric.nvmlReturn == pynvml.NVML_SUCCESS else None

    def _memory_mb(self, now: float) -> float:
        return pynvml.nvmlDeviceGetMemoryInfo(self._handle).used / 1e6

    def _process_memory_mb(self, now: float) -> float:
        """0 where the driver does not list this process: before it uses the GPU, and in a container with its own process ids."""
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        return sum(process.usedGpuMemory or 0 for process in processes if process.pid == os.getpid()) / 1e6

    def _temperature_celsius(self, now: float) -> float:
        return float(pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU))
