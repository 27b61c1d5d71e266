"""A description of the device that a trial runs on, for the trial's record."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ddl.telemetry.nvml import MIG_NAME, driver_version, gpu_uuid

if TYPE_CHECKING:
    import torch


def describe_device(device: torch.device) -> dict[str, Any]:
    """The device as JSON values. A value that could not be read is None.

    A CPU has `type`, `name` and `cores` (that this process may use). A GPU has `type`, `name`, `memory_bytes`,
    `compute_capability` ("9.0"), `cuda_version` (of PyTorch), `driver_version`, `uuid` and `mig_profile`. A MIG slice has the memory
    and the UUID of the slice; its profile is "1g.10gb", for example, and a whole GPU's is None. If CUDA does not work, there is only
    `type`: the trial then raises its own error.
    """
    if device.type != "cuda":
        return {"type": device.type, "name": cpu_name(), "cores": usable_cores()}
    import torch

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
    """Number of cores that this process may use: those of its affinity mask, and no more than its container's quota allows."""
    affinity = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else None
    cores = len(affinity) if affinity else os.cpu_count() or 1
    return max(1, int(min(cores, cpu_quota())))


def cpu_quota(cgroups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores that the control groups of this process, and those above them, allow it on average; infinite without a limit.

    Linux kernel documentation: cgroup v2, `cpu.max`; CFS bandwidth control for v1.
    """
    quota = math.inf
    for line in cgroups.read_text().splitlines() if cgroups.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = next((root / name for name in (controllers, "cpu") if (root / name).is_dir()), root) if controllers else root
        # In a container the file may name a path of the host, which is not visible: the limit is then at the top.
        for folder in [top / group.lstrip("/"), *(top / group.lstrip("/")).parents]:
            if folder.is_relative_to(top):
                quota = min(quota, _quota_of(folder))
    return quota


def _quota_of(folder: Path) -> float:
    """Cores that a control group itself allows."""
    if (limit := folder / "cpu.max").is_file():
        microseconds, period = limit.read_text().split()
        return math.inf if microseconds == "max" else int(microseconds) / int(period)
    if (limit := folder / "cpu.cfs_quota_us").is_file():
        microseconds = limit.read_text().strip()
        return math.inf if int(microseconds) < 0 else int(microseconds) / int((folder / "cpu.cfs_period_us").read_text())
    return math.inf
