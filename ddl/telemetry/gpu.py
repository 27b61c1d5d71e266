"""Figures of the GPU or MIG slice that a trial runs on. Those that NVML does not support are left out."""

import math
import os
from typing import Any

import pynvml

from ddl.telemetry.nvml import close_nvml, is_slice, nvml_answer, open_nvml

MILLIJOULES_PER_WH = 3.6e6


def find_gpu(uuid: str, gpu_fraction: float) -> "Gpu | None":
    """The GPU or MIG slice with this UUID, of which a trial has the fraction `gpu_fraction`; None if NVML does not find it."""
    if not open_nvml():
        return None
    try:
        return Gpu(pynvml.nvmlDeviceGetHandleByUUID(uuid), gpu_fraction)
    except pynvml.NVMLError:
        close_nvml()
        return None


class Gpu:
    """A GPU or a MIG slice, of which a trial has the fraction `gpu_fraction`.

    NVML cannot attribute work to one of several trials on a GPU. So a trial's utilisation, multiprocessor activity and energy are
    the GPU's times `gpu_fraction`, even while the other trials are idle: the trials of a fully allocated GPU add up to the GPU.
    Memory and temperature are not divided.

    Memory and multiprocessor activity of a MIG slice are its own, the temperature is the GPU's. Energy of a slice is left out: NVML
    measures the whole GPU, and slices of other users may have used any part of it. Utilisation is left out because NVML does not
    support it in MIG mode.
    """

    def __init__(self, handle: Any, gpu_fraction: float):
        self._handle, self._gpu_fraction = handle, gpu_fraction
        self._slice = is_slice(handle)
        self._gpu = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle) if self._slice else handle
        self._previous_energy: tuple[float, float] | None = None
        self._has_energy_counter = nvml_answer(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._gpu) is not None
        self._gpm_samples: list[Any] = []
        self._has_gpm_sample = False
        try:
            # GPM counts a whole GPU instance, so not a compute instance that is only a part of it.
            if pynvml.nvmlGpmQueryDeviceSupport(self._gpu).isSupportedDevice and not (self._slice and _is_part_of_instance(handle)):
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
            value = nvml_answer(measure, now)  # None: not supported, or the GPU is lost
            if value is not None and math.isfinite(value):
                figures[name] = value
        return figures

    def close(self) -> None:
        """Release NVML."""
        for sample in self._gpm_samples:
            nvml_answer(pynvml.nvmlGpmSampleFree, sample)
        close_nvml()

    def _energy_wh(self, now: float) -> float | None:
        """Energy from the GPU's counter (Volta and later), else the integral of its power by the trapezoid rule."""
        if self._slice:
            return None
        query = pynvml.nvmlDeviceGetTotalEnergyConsumption if self._has_energy_counter else pynvml.nvmlDeviceGetPowerUsage
        value = query(self._gpu)  # mJ, or mW
        before, self._previous_energy = self._previous_energy, (now, value)
        if before is None:
            return None
        millijoules = value - before[1] if self._has_energy_counter else (value + before[1]) / 2 * (now - before[0])
        return self._gpu_fraction * millijoules / MILLIJOULES_PER_WH

    def _utilisation_percent(self, now: float) -> float | None:
        """Percentage of the last second (or less) in which any kernel ran, however few multiprocessors it used."""
        return None if self._slice else self._gpu_fraction * pynvml.nvmlDeviceGetUtilizationRates(self._gpu).gpu

    def _sm_activity_percent(self, now: float) -> float | None:
        """Percentage of busy multiprocessors, from GPM (Hopper and later)."""
        if not self._gpm_samples:
            return None
        before, after = self._gpm_samples
        if self._slice:
            pynvml.nvmlGpmMigSampleGet(self._gpu, pynvml.nvmlDeviceGetGpuInstanceId(self._handle), after)
        else:
            pynvml.nvmlGpmSampleGet(self._gpu, after)
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
        """Memory of this process, with its CUDA context and what PyTorch's allocator caches.

        0 if the driver does not list the process: before it uses the GPU, and in a container with its own process ids.
        """
        # The function without a version raises another error than an NVMLError if the driver is too old.
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(self._handle)
        return sum(process.usedGpuMemory or 0 for process in processes if process.pid == os.getpid()) / 1e6

    def _temperature_celsius(self, now: float) -> float:
        return float(pynvml.nvmlDeviceGetTemperature(self._gpu, pynvml.NVML_TEMPERATURE_GPU))


def _is_part_of_instance(handle: Any) -> bool:
    """True if a MIG slice (a compute instance) is smaller than its GPU instance, which then has room for others."""
    attributes = pynvml.nvmlDeviceGetAttributes_v2(handle)
    return attributes.computeInstanceSliceCount < attributes.gpuInstanceSliceCount
