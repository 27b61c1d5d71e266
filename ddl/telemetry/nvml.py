"""GPUs and MIG slices as NVML shows them. Figures that NVML does not support are left out: no NVML error leaves this module."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pynvml

if TYPE_CHECKING:
    import torch

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
    if not open_nvml():
        return []
    try:
        gpus = [nvml_answer(pynvml.nvmlDeviceGetHandleByIndex, index) for index in range(nvml_answer(pynvml.nvmlDeviceGetCount) or 0)]
        devices = [_describe(handle) for gpu in gpus if gpu is not None for handle in (gpu, *_slices(gpu))]
        return [device for device in devices if device is not None]
    finally:
        close_nvml()


def driver_version() -> str | None:
    """Version of the NVIDIA driver; None without NVML, or if it does not answer within `ANSWER_S`."""
    return _in_time(_driver_version)


def gpu_uuid(device: torch.device) -> str | None:
    """UUID of a device in NVML and in `CUDA_VISIBLE_DEVICES`: `GPU-...`, or `MIG-...` for a MIG slice.

    None for a CPU, for a slice that NVML does not find, and if CUDA does not work (the trial then raises its own error).
    """
    if device.type != "cuda":
        return None
    import torch

    try:
        properties = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError):  # torch asserts that it was built with CUDA
        return None
    if MIG_NAME not in properties.name:
        return f"GPU-{properties.uuid}"
    return _in_time(lambda: _slice_uuid(str(properties.uuid), device.index or 0))


def open_nvml() -> bool:
    """True if NVML is now initialised. Every successful call needs a `close_nvml`: NVML counts them."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return True


def close_nvml() -> None:
    """Undo one `open_nvml`."""
    nvml_answer(pynvml.nvmlShutdown)  # nothing to release if the driver is gone


def nvml_answer(query: Callable[..., Any], *arguments: Any) -> Any:
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
    if not open_nvml():
        return None
    version = nvml_answer(pynvml.nvmlSystemGetDriverVersion)
    close_nvml()
    return version


def _describe(handle: Any) -> NvmlDevice | None:
    """The device of a handle, or None if the device does not answer."""
    uuid, name = nvml_answer(pynvml.nvmlDeviceGetUUID, handle), nvml_answer(pynvml.nvmlDeviceGetName, handle)
    if uuid is None or name is None:
        return None
    in_gpu = is_slice(handle)
    gpu = nvml_answer(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle) if in_gpu else handle
    # Version 2 does not count the driver's own memory as used; drivers before 510 have version 1 only.
    memory = nvml_answer(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2) or nvml_answer(
        pynvml.nvmlDeviceGetMemoryInfo, handle
    )
    capability = nvml_answer(pynvml.nvmlDeviceGetCudaComputeCapability, gpu)
    return NvmlDevice(
        uuid,
        name,
        memory.total if memory else None,
        memory.used if memory else None,
        nvml_answer(pynvml.nvmlSystemGetDriverVersion),
        ".".join(map(str, capability)) if capability else None,
        nvml_answer(pynvml.nvmlDeviceGetUUID, gpu) if in_gpu else None,
    )


def is_slice(handle: Any) -> bool:
    """True for the handle of a MIG slice."""
    return bool(nvml_answer(pynvml.nvmlDeviceIsMigDeviceHandle, handle))


def _slices(gpu: Any) -> list[Any]:
    """Handles of a GPU's MIG slices that this process may use."""
    slices = []
    for index in range(nvml_answer(pynvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0):
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
    if not open_nvml():
        return None
    try:
        for name in (f"MIG-{uuid}", *visible[index : index + 1]):
            handle = nvml_answer(pynvml.nvmlDeviceGetHandleByUUID, name.strip())
            if handle is not None and is_slice(handle):
                return nvml_answer(pynvml.nvmlDeviceGetUUID, handle)
        gpu = nvml_answer(pynvml.nvmlDeviceGetHandleByUUID, f"GPU-{uuid}")
        slices = [] if gpu is None else _slices(gpu)
        return nvml_answer(pynvml.nvmlDeviceGetUUID, slices[0]) if len(slices) == 1 else None
    finally:
        close_nvml()
