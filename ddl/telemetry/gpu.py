"""GPUs and MIG slices as NVML shows them. Figures that NVML does not support are left out: no NVML error leaves this module."""

import contextlib
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml
import torch

MILLIJOULES_PER_WH = 3.6e6

ANSWER_S = 2.0
"""Seconds that the start of a trial waits for NVML. The driver of a lost GPU may never answer."""

MIG_NAME = " MIG "
"""Separates the GPU from the profile in the name of a MIG slice: "NVIDIA A100-SXM4-40GB MIG 1g.5gb"."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class NvmlDevice:
    """A GPU, or a MIG slice of one. Figures that NVML does not provide are None.

    `memory_bytes` is all memory, `used_bytes` what processes have allocated of it, those of other containers included. NVML
    provides neither for a GPU in MIG mode to a process that may use only some of its slices. `compute_capability` is "9.0", for
    example. `slice_of` is the UUID of the GPU that a slice is part of, and None for a GPU.
    """

    uuid: str
    name: str
    memory_bytes: int | None
    used_bytes: int | None
    driver_version: str | None
    compute_capability: str | None
    slice_of: str | None = None


def nvml_devices() -> list[NvmlDevice]:
    """All GPUs of the machine, each followed by its MIG slices; empty without NVML. A GPU that does not answer is missing.

    Does not initialise CUDA, and ignores `CUDA_VISIBLE_DEVICES`.
    """
    if not _open():
        return []
    try:
        gpus = [_answer(pynvml.nvmlDeviceGetHandleByIndex, index) for index in range(_answer(pynvml.nvmlDeviceGetCount) or 0)]
        devices = [_describe(handle) for gpu in gpus if gpu is not None for handle in (gpu, *_slices(gpu))]
        return [device for device in devices if device is not None]
    finally:
        _close()


def driver_version() -> str | None:
    """Version of the NVIDIA driver; None without NVML, or if it does not answer within `ANSWER_S`."""
    return _in_time(_driver_version)


def gpu_uuid(device: torch.device) -> str | None:
    """UUID of a device in NVML and in `CUDA_VISIBLE_DEVICES`: `GPU-...`, or `MIG-...` for a MIG slice.

    None for a CPU, for a slice that NVML does not find, and if CUDA does not work (the trial then raises its own error).
    """
    if device.type != "cuda":
        return None
    try:
        properties = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError):  # torch asserts that it was built with CUDA
        return None
    if MIG_NAME not in properties.name:
        return f"GPU-{properties.uuid}"
    return _in_time(lambda: _slice_uuid(str(properties.uuid), device.index or 0))


def find_gpu(uuid: str, gpu_fraction: float) -> "Gpu | None":
    """The GPU or MIG slice with this UUID, of which a trial has the fraction `gpu_fraction`; None if NVML does not find it."""
    if not _open():
        return None
    try:
        return Gpu(pynvml.nvmlDeviceGetHandleByUUID(uuid), gpu_fraction)
    except pynvml.NVMLError:
        _close()
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
        self._slice = _is_slice(handle)
        self._gpu = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle) if self._slice else handle
        self._previous_energy: tuple[float, float] | None = None
        self._has_energy_counter = _answer(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._gpu) is not None
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
            value = _answer(measure, now)  # None: not supported, or the GPU is lost
            if value is not None and math.isfinite(value):
                figures[name] = value
        return figures

    def close(self) -> None:
        """Release NVML."""
        for sample in self._gpm_samples:
            _answer(pynvml.nvmlGpmSampleFree, sample)
        _close()

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


def _open() -> bool:
    """True if NVML is now initialised. Every successful call needs a `_close`: NVML counts them."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return True


def _close() -> None:
    _answer(pynvml.nvmlShutdown)  # nothing to release if the driver is gone


def _answer(query: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a query, or None if NVML does not support it."""
    try:
        return query(*arguments)
    except pynvml.NVMLError:
        return None


def _in_time(query: Callable[[], Answer]) -> Answer | None:
    """The result of a query, or None if it takes longer than `ANSWER_S`."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(query()), name="nvml-query", daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    return answers[0] if answers else None


def _driver_version() -> str | None:
    if not _open():
        return None
    version = _answer(pynvml.nvmlSystemGetDriverVersion)
    _close()
    return version


def _describe(handle: Any) -> NvmlDevice | None:
    """The device of a handle, or None if the device does not answer."""
    uuid, name = _answer(pynvml.nvmlDeviceGetUUID, handle), _answer(pynvml.nvmlDeviceGetName, handle)
    if uuid is None or name is None:
        return None
    is_slice = _is_slice(handle)
    gpu = _answer(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle) if is_slice else handle
    # Version 2 does not count the driver's own memory as used; drivers before 510 have version 1 only.
    memory = _answer(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2) or _answer(pynvml.nvmlDeviceGetMemoryInfo, handle)
    capability = _answer(pynvml.nvmlDeviceGetCudaComputeCapability, gpu)
    return NvmlDevice(
        uuid,
        name,
        memory.total if memory else None,
        memory.used if memory else None,
        _answer(pynvml.nvmlSystemGetDriverVersion),
        ".".join(map(str, capability)) if capability else None,
        _answer(pynvml.nvmlDeviceGetUUID, gpu) if is_slice else None,
    )


def _is_slice(handle: Any) -> bool:
    return bool(_answer(pynvml.nvmlDeviceIsMigDeviceHandle, handle))


def _is_part_of_instance(handle: Any) -> bool:
    """True if a MIG slice (a compute instance) is smaller than its GPU instance, which then has room for others."""
    attributes = pynvml.nvmlDeviceGetAttributes_v2(handle)
    return attributes.computeInstanceSliceCount < attributes.gpuInstanceSliceCount


def _slices(gpu: Any) -> list[Any]:
    """Handles of a GPU's MIG slices that this process may use."""
    slices = []
    for index in range(_answer(pynvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0):
        with contextlib.suppress(pynvml.NVMLError):  # there are fewer slices than possible
            slices.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
    return slices


def _slice_uuid(uuid: str, index: int) -> str | None:
    """UUID of the MIG slice with CUDA's device number `index`, whose UUID is `uuid` according to PyTorch, or None if it is unclear.

    The driver API has two functions: `cuDeviceGetUuid_v2` returns the UUID of the slice, `cuDeviceGetUuid` the UUID of the whole GPU
    (CUDA Driver API, "Device Management"). PyTorch does not document which one it shows. If it is the GPU's, the slice is
    the one that `CUDA_VISIBLE_DEVICES` names, or the only one that this process may use.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if not _open():
        return None
    try:
        for name in (f"MIG-{uuid}", *visible[index : index + 1]):
            handle = _answer(pynvml.nvmlDeviceGetHandleByUUID, name.strip())
            if handle is not None and _is_slice(handle):
                return _answer(pynvml.nvmlDeviceGetUUID, handle)
        gpu = _answer(pynvml.nvmlDeviceGetHandleByUUID, f"GPU-{uuid}")
        slices = [] if gpu is None else _slices(gpu)
        return _answer(pynvml.nvmlDeviceGetUUID, slices[0]) if len(slices) == 1 else None
    finally:
        _close()
