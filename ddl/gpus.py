"""The GPUs of this machine: those that PyTorch can use, and the reasons why it cannot use the others."""

import ctypes
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddl.telemetry.nvml import MIG_NAME, gpu_uuid, nvml_devices

NVIDIA_LIBRARY, AMD_DEVICE = "libcuda.so.1", Path("/dev/kfd")
"""The part of each driver through which PyTorch uses GPUs."""


@dataclass(frozen=True)
class CudaGpu:
    """A GPU, or a MIG slice of one: its CUDA index in this process, its UUID (None if unknown), its name and its compute capability."""

    index: int
    uuid: str | None
    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class MachineGpus:
    """The usable GPUs of a machine, and a sentence for each GPU, or group of GPUs, that is not usable."""

    usable: tuple[CudaGpu, ...]
    problems: tuple[str, ...] = ()


def machine_gpus() -> MachineGpus:
    """The GPUs that this process sees, and all MIG slices of GPUs in MIG mode. Does not create a CUDA context.

    A GPU is usable if CUDA initialises and the installed PyTorch has kernels for the GPU's compute capability. Without a driver, torch,
    whose import takes seconds, is not asked.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not (_has_driver() or nvml_devices()):
        return MachineGpus(())
    import torch

    with warnings.catch_warnings(record=True) as caught:  # PyTorch warns of a driver that fails, and of GPUs without kernels
        warnings.simplefilter("always")
        if not torch.cuda.is_available():
            names = _nvml_names()
            return MachineGpus((), (f"{names}: CUDA does not start: {_cuda_failure(caught)}.",) if names else ())
        try:
            found = [_cuda_device(index) for index in range(torch.cuda.device_count())]
            kernels = torch.cuda.get_arch_list()
        except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
            return MachineGpus((), (f"{_nvml_names() or 'GPU'}: CUDA does not start: {_first_line(error)}.",))
    if any(MIG_NAME in gpu.name for gpu in found) and (slices := _visible_slices()):
        # CUDA shows one MIG slice only.
        found = [gpu for gpu in found if MIG_NAME not in gpu.name] + slices
    usable = tuple(gpu for gpu in found if has_kernels(gpu.capability, kernels))
    problems = (_no_kernels(gpu, kernels) for gpu in found if not has_kernels(gpu.capability, kernels))
    return MachineGpus(usable, tuple(problems))


def _visible_slices() -> list[CudaGpu]:
    """The MIG slices of this machine that CUDA_VISIBLE_DEVICES names by UUID, or all if it is not set."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    slices = [device for device in nvml_devices() if device.slice_of and (named is None or device.uuid in named.split(","))]
    return [CudaGpu(0, device.uuid, device.name, _version(device.compute_capability)) for device in slices]


def use_only(gpus: Iterable[CudaGpu]) -> None:
    """Hide all other GPUs from the processes that this process starts from now on."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = named.split(",") if named else []
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid or (visible[gpu.index] if visible else str(gpu.index)) for gpu in gpus)


def has_kernels(capability: tuple[int, int], kernels: Iterable[str]) -> bool:
    """True if a GPU of this compute capability can run one of `kernels` (`torch.cuda.get_arch_list`).

    Machine code (`sm_75`) runs on GPUs of the same major version with the same or a later minor version, `sm_90a` on exactly that
    version, and PTX (`compute_90`) on all later ones (CUDA C++ Programming Guide, "Application Compatibility").
    """
    nvidia = [match for match in (re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", kernel) for kernel in kernels) if match]
    if not nvidia:  # PyTorch for AMD GPUs names its kernels otherwise
        return True
    for match in nvidia:
        built_for = (int(match[2]), int(match[3]))
        if match[4] == "a":
            runs = capability == built_for
        elif match[1] == "sm":
            runs = capability[0] == built_for[0] and capability[1] >= built_for[1]
        else:
            runs = capability >= built_for
        if runs:
            return True
    return False


def _has_driver() -> bool:
    """True if this machine has a driver that PyTorch can use GPUs with."""
    try:
        ctypes.CDLL(NVIDIA_LIBRARY)  # initialises nothing
    except OSError:
        return AMD_DEVICE.exists()
    return True


def _cuda_device(index: int) -> CudaGpu:
    import torch

    device = torch.device("cuda", index)
    return CudaGpu(index, gpu_uuid(device), torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device))


def _version(text: str | None) -> tuple[int, int]:
    major, _, minor = (text or "0.0").partition(".")
    return int(major), int(minor)


def _no_kernels(gpu: CudaGpu, kernels: Sequence[str]) -> str:
    import torch

    return (
        f"{gpu.name}: its compute capability is {'.'.join(map(str, gpu.capability))}, but PyTorch {torch.__version__} has kernels for "
        f"{', '.join(kernels)} only. Install a PyTorch that supports this GPU (docs/how-to/gpus.md)."
    )


def _nvml_names() -> str:
    return ", ".join(device.name for device in nvml_devices() if device.slice_of is None)


def _cuda_failure(caught: Sequence[warnings.WarningMessage]) -> str:
    """The reason why CUDA is not available. `caught` are the warnings of the attempt."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} is built without CUDA; pytorch.org has builds with CUDA"
    if caught:
        return _first_line(caught[0].message)
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return _first_line(error)
    return "it finds no device; check the driver with nvidia-smi"


def _first_line(error: Warning | Exception | str) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
