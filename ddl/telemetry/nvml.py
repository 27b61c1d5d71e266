"""Readings of a GPU through NVML. Figures that NVML does not support are left out: no NVML error leaves this module."""

import math
import os
from typing import Any

import pynvml
import torch

MILLIJOULES_PER_WH = 3.6e6


def gpu_uuid(device: torch.device) -> str | None:
    """UUID of a device in NVML; None for a CPU, and if CUDA does not work (the trial then raises its own error)."""
    if device.type != "cuda":
        return None
    try:
        return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    except (RuntimeError, AssertionError):  # torch asserts that it was built with CUDA
        return None


def find_gpu(uuid: str, gpu_fraction: float) -> "Gpu | None":
    """The GPU with this UUID, or None. MIG slices have another kind of UUID and are not found."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return Gpu(pynvml.nvmlDeviceGetHandleByUUID(uuid), gpu_fraction)
    except pynvml.NVMLError:
        pynvml.nvmlShutdown()
        return None


class Gpu:
    """A GPU, of which a trial has the fraction `gpu_fraction`.

    NVML cannot attribute work to one of several trials on a GPU. So a trial's utilisation and energy are the GPU's times
    `gpu_fraction`, even while the other trials are idle. Memory and temperature are not divided.
    """

    def __init__(self, handle: Any, gpu_fraction: float):
        self._handle, self._gpu_fraction = handle, gpu_fraction
        self._previous_energy: tuple[float, float] | None = None
        self._gpm_samples: list[Any] = []
        self._has_gpm_sample = False
        try:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            self._has_energy_counter = True
        except pynvml.NVMLError:
            self._has_energy_counter = False
        try:
            if pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                self._gpm_samples = [pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()]
        except pynvml.NVMLError:
            pass  # the driver is too old for GPM

    def read(self, now: float) -> dict[str, float]:
        """Supported figures by name. `energy_wh` and `gpu_sm_activity_percent` cover the time since the previous reading."""
        measures = {
            "energy_wh": self._energy_wh,
            "gpu_utilisation_percent": self._utilisation_percent,
            "gpu_sm_activity_percent": self._sm_activity_percent,
            "gpu_memory_peak_mb": self._memory_mb,
            "gpu_process_memory_peak_mb": self._process_memory_mb,
            "gpu_temperature_max_celsius": self._temperature_celsius,
        }
        figures = {}
        for name, measure in measures.items():
            try:
                value = measure(now)
            except pynvml.NVMLError:  # not supported, or the GPU is lost
                continue
            if value is not None and math.isfinite(value):
                figures[name] = value
        return figures

    def close(self) -> None:
        """Release NVML."""
        try:
            for sample in self._gpm_samples:
                pynvml.nvmlGpmSampleFree(sample)
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            pass  # nothing to release if the driver is gone

    def _energy_wh(self, now: float) -> float | None:
        """Energy from the GPU's counter (Volta and later), else the integral of its power by the trapezoid rule."""
        query = pynvml.nvmlDeviceGetTotalEnergyConsumption if self._has_energy_counter else pynvml.nvmlDeviceGetPowerUsage
        value = query(self._handle)  # mJ, or mW
        before, self._previous_energy = self._previous_energy, (now, value)
        if before is None:
            return None
        millijoules = value - before[1] if self._has_energy_counter else (value + before[1]) / 2 * (now - before[0])
        return self._gpu_fraction * millijoules / MILLIJOULES_PER_WH

    def _utilisation_percent(self, now: float) -> float:
        """Percentage of the last second (or less) in which any kernel ran, however few multiprocessors it used."""
        return self._gpu_fraction * pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu

    def _sm_activity_percent(self, now: float) -> float | None:
        """Percentage of busy multiprocessors, from GPM (Hopper and later)."""
        if not self._gpm_samples:
            return None
        before, after = self._gpm_samples
        pynvml.nvmlGpmSampleGet(self._handle, after)
        self._gpm_samples, had_sample, self._has_gpm_sample = [after, before], self._has_gpm_sample, True
        if not had_sample:
            return None
        query = pynvml.c_nvmlGpmMetricsGet_t(version=pynvml.NVML_GPM_METRICS_GET_VERSION, numMetrics=1, sample1=before, sample2=after)
        metric = query.metrics[0]
        metric.metricId = pynvml.NVML_GPM_METRIC_SM_UTIL
        pynvml.nvmlGpmMetricsGet(query)
        return self._gpu_fraction * metric.value if metric.nvmlReturn == pynvml.NVML_SUCCESS else None

    def _memory_mb(self, now: float) -> float:
        return pynvml.nvmlDeviceGetMemoryInfo(self._handle).used / 1e6

    def _process_memory_mb(self, now: float) -> float:
        """Memory of this process; 0 if the driver does not list it: before it uses the GPU, and in a container with its own process ids."""
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        return sum(process.usedGpuMemory or 0 for process in processes if process.pid == os.getpid()) / 1e6

    def _temperature_celsius(self, now: float) -> float:
        return float(pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU))
