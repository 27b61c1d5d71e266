"""A description of the device that a trial runs on, for the trial's record."""

import os
import platform
from pathlib import Path
from typing import Any

import psutil
import torch

from ddl.telemetry.gpu import MIG_NAME, driver_version, gpu_uuid


def describe_device(device: torch.device) -> dict[str, Any]:
    """The device as JSON values. A value that could not be read is None.

    A CPU has `type`, `name` and `cores` (that this process may use). A GPU has `type`, `name`, `memory_bytes`,
    `compute_capability` ("9.0"), `cuda_version` (of PyTorch), `driver_version`, `uuid` and `mig_profile`. A MIG slice has the memory
    and the UUID of the slice; its profile is "1g.10gb", for example, and a whole GPU's is None. If CUDA does not work, there is only
    `type`: the trial then raises its own error.
    """
    if device.type != "cuda":
        return {"type": device.type, "name": cpu_name(), "cores": usable_cores()}
    try:
        properties = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError):  # torch asserts that it was built with CUDA
        return {"type": device.type}
    return {
        "type": device.type,
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda_version": torch.version.cuda,
        "driver_version": driver_version(),
        "uuid": gpu_uuid(device),
        "mig_profile": properties.name.partition(MIG_NAME)[2] or None,
    }


def cpu_name() -> str:
    """The processor's model name, or its architecture if the system does not show a name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Number of cores that this process may use."""
    affinity = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else None
    return len(affinity) if affinity else os.cpu_count() or 1
