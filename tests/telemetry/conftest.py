"""A fake machine with GPUs behind `pynvml`, and a fake clock."""

import os
import threading
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml
import pytest

from ddl.telemetry import gpu as gpu_module
from ddl.telemetry import nvml

UUID = "GPU-11111111-2222-3333-4444-555555555555"
SLICE = "MIG-aaaaaaaa-2222-3333-4444-555555555555"

UNSUPPORTED_ON_A_SLICE = {
    "nvmlDeviceGetTotalEnergyConsumption": pynvml.NVML_ERROR_NOT_SUPPORTED,
    "nvmlDeviceGetPowerUsage": pynvml.NVML_ERROR_NOT_SUPPORTED,
    "nvmlDeviceGetUtilizationRates": pynvml.NVML_ERROR_NOT_SUPPORTED,
    "nvmlDeviceGetTemperature": pynvml.NVML_ERROR_INVALID_ARGUMENT,
    "nvmlDeviceGetCudaComputeCapability": pynvml.NVML_ERROR_INVALID_ARGUMENT,
    "nvmlDeviceGetMaxMigDeviceCount": pynvml.NVML_ERROR_INVALID_ARGUMENT,
    "nvmlGpmQueryDeviceSupport": pynvml.NVML_ERROR_INVALID_ARGUMENT,
    "nvmlGpmSampleGet": pynvml.NVML_ERROR_INVALID_ARGUMENT,
}
UNSUPPORTED_IN_MIG_MODE = {
    "nvmlDeviceGetUtilizationRates": pynvml.NVML_ERROR_NOT_SUPPORTED,
    "nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NO_PERMISSION,
    "nvmlDeviceGetComputeRunningProcesses_v3": pynvml.NVML_ERROR_NO_PERMISSION,
}
"""Errors of calls with a slice's handle, and with the handle of a GPU in MIG mode, as an H100 with driver 535 returns them."""


@dataclass(eq=False)
class FakeDevice:
    """A GPU, or with `gpu` a MIG slice of that GPU. The object is its own NVML handle."""

    uuid: str = UUID
    name: str = "NVIDIA H100 80GB HBM3"
    capability: tuple[int, int] = (9, 0)
    total: int = 80_000_000_000
    memory: int = 5_000_000_000
    processes: dict[int, int] = field(default_factory=lambda: {os.getpid(): 2_000_000_000, 1: 1_000_000_000})
    gpu: "FakeDevice | None" = None
    slices: "dict[int, FakeDevice]" = field(default_factory=dict)
    lost: bool = False
    instance: int = 0
    """Id of a slice's GPU instance."""
    instance_slices: int = 1
    compute_slices: int = 1

    def divide(self, index: int = 0, uuid: str = SLICE, **values: Any) -> "FakeDevice":
        """A new MIG slice of this GPU; `index` is its number in NVML."""
        values = {"name": f"{self.name} MIG 1g.10gb", "total": 10_000_000_000, "memory": 3_000_000_000, "instance": 7, **values}
        self.slices[index] = FakeDevice(uuid, gpu=self, **values)
        return self.slices[index]


class FakeGpu(FakeDevice):
    """The machine's first GPU, and the machine: its other GPUs are in `others`. What it shows are plain attributes.

    `refuses` names calls that the GPU does not support, `lacks` those that the driver does not have. The machine is lost after `lives`
    readings. A reading takes `reading_s` on the clock, and the energy counter runs with the clock at `watts`. `cuda` are the
    properties that PyTorch shows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.others: list[FakeDevice] = []
        self.clock = Clock()
        self.reading_s = 0.0
        self.watts = 360.0
        self.utilisation, self.temperature = 80, 60
        self.sm_activity = 40.0
        self.lives = 10**9
        self.refuses: set[str] = set()
        self.lacks: set[str] = set()
        self.readings = 0
        self.hangs = threading.Event()
        self.hangs.set()
        self.open = self.samples = 0
        self.sampled: list[tuple[FakeDevice, int | None]] = []
        self.cuda = SimpleNamespace(
            uuid=UUID.removeprefix("GPU-"), name=self.name, total_memory=self.total, major=9, minor=0, multi_processor_count=132
        )

    def module(self) -> ModuleType:
        """The real module, structures and errors included, with this machine's calls in place of the driver's."""
        module = ModuleType("pynvml")
        module.__dict__.update(vars(pynvml))
        calls = {name: getattr(self, name) for name in dir(self) if name.startswith("nvml")}
        module.__dict__.update({name: self._guarded(name, call) for name, call in calls.items()})
        return module

    def _guarded(self, name: str, call: Any) -> Any:
        def guarded(*arguments: Any) -> Any:
            if name == "nvmlDeviceGetTemperature":  # once in every reading
                self.readings += 1
                self.clock.now += self.reading_s
            self.hangs.wait()
            if name in self.lacks:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            if name in self.refuses:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            device = arguments[0] if arguments and isinstance(arguments[0], FakeDevice) else None
            if self.readings > self.lives or (device and device.lost):
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            unsupported = (
                {} if device is None else UNSUPPORTED_ON_A_SLICE if device.gpu else UNSUPPORTED_IN_MIG_MODE if device.slices else {}
            )
            if name in unsupported:
                raise pynvml.NVMLError(unsupported[name])
            return call(*arguments)

        return guarded

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.86.15"

    def nvmlDeviceGetCount(self) -> int:
        return 1 + len(self.others)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeDevice:
        device = [self, *self.others][index]
        if device.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return device

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeDevice:
        for gpu in (self, *self.others):
            for device in (gpu, *gpu.slices.values()):
                if uuid in (device.uuid, f"MIG-{gpu.uuid}/{device.instance}/0"):  # the second is what drivers before 470 call a slice
                    return device
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetUUID(self, device: FakeDevice) -> str:
        return device.uuid

    def nvmlDeviceGetName(self, device: FakeDevice) -> str:
        return device.name

    def nvmlDeviceGetCudaComputeCapability(self, device: FakeDevice) -> tuple[int, int]:
        return device.capability

    def nvmlDeviceIsMigDeviceHandle(self, device: FakeDevice) -> bool:
        return device.gpu is not None

    def nvmlDeviceGetMaxMigDeviceCount(self, device: FakeDevice) -> int:
        return 7 if device.slices else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: FakeDevice, index: int) -> FakeDevice:
        if index not in device.slices:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return device.slices[index]

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, device: FakeDevice) -> FakeDevice:
        if device.gpu is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return device.gpu

    def nvmlDeviceGetGpuInstanceId(self, device: FakeDevice) -> int:
        return device.instance

    def nvmlDeviceGetAttributes_v2(self, device: FakeDevice) -> SimpleNamespace:
        return SimpleNamespace(gpuInstanceSliceCount=device.instance_slices, computeInstanceSliceCount=device.compute_slices)

    def nvmlDeviceGetTotalEnergyConsumption(self, device: FakeDevice) -> int:
        return round(self.watts * self.clock.now * 1000)

    def nvmlDeviceGetPowerUsage(self, device: FakeDevice) -> int:
        return round(self.watts * 1000)

    def nvmlDeviceGetUtilizationRates(self, device: FakeDevice) -> SimpleNamespace:
        return SimpleNamespace(gpu=self.utilisation, memory=7)

    def nvmlDeviceGetMemoryInfo(self, device: FakeDevice, version: int | None = None) -> SimpleNamespace:
        return SimpleNamespace(used=device.memory, total=device.total)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, device: FakeDevice) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in device.processes.items()]

    def nvmlDeviceGetTemperature(self, device: FakeDevice, sensor: int) -> int:
        return self.temperature

    def nvmlGpmQueryDeviceSupport(self, device: FakeDevice) -> SimpleNamespace:
        return SimpleNamespace(isSupportedDevice=1)

    def nvmlGpmSampleAlloc(self) -> Any:
        self.samples += 1
        return pynvml.c_nvmlGpmSample_t()

    def nvmlGpmSampleFree(self, sample: Any) -> None:
        self.samples -= 1

    def nvmlGpmSampleGet(self, device: FakeDevice, sample: Any) -> Any:
        self.sampled.append((device, None))
        return sample

    def nvmlGpmMigSampleGet(self, device: FakeDevice, instance: int, sample: Any) -> Any:
        self.sampled.append((device, instance))
        return sample

    def nvmlGpmMetricsGet(self, asked: Any) -> Any:
        assert asked.version == pynvml.NVML_GPM_METRICS_GET_VERSION
        assert asked.numMetrics == 1
        assert asked.metrics[0].metricId == pynvml.NVML_GPM_METRIC_SM_UTIL
        asked.metrics[0].value = self.sm_activity
        return asked


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = fake.module()
    for module in (nvml, gpu_module):
        monkeypatch.setattr(module, "pynvml", driver)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: fake.cuda)
    return fake


@pytest.fixture
def mig(gpu: FakeGpu) -> FakeDevice:
    """A slice of the machine's only GPU, which PyTorch shows with the UUID of the slice."""
    device = gpu.divide()
    gpu.cuda.uuid, gpu.cuda.name, gpu.cuda.total_memory = SLICE.removeprefix("MIG-"), device.name, device.total
    return device
