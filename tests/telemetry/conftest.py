"""A fake GPU behind `pynvml`, and a fake clock."""

import os
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pynvml
import pytest

from ddl.telemetry import nvml

UUID = "GPU-11111111-2222-3333-4444-555555555555"


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeGpu:
    """One GPU behind a fake `pynvml`. What it shows are plain attributes; `refuses` names calls that it does not support.

    It is lost after `lives` readings. A reading takes `reading_s` on the clock, and the energy counter runs with the clock
    at `watts`.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.reading_s = 0.0
        self.watts = 360.0
        self.utilisation, self.memory, self.temperature = 80, 5_000_000_000, 60
        self.sm_activity = 40.0
        self.processes = {os.getpid(): 2_000_000_000, 1: 1_000_000_000}
        self.lives = 10**9
        self.refuses: set[str] = set()
        self.readings = 0
        self.hangs = threading.Event()
        self.hangs.set()
        self.open = self.samples = 0

    @property
    def lost(self) -> bool:
        return self.readings > self.lives

    def module(self) -> ModuleType:
        """The real module, structures and errors included, with this GPU's calls in place of the driver's."""
        module = ModuleType("pynvml")
        module.__dict__.update(vars(pynvml))
        calls = {name: getattr(self, name) for name in dir(self) if name.startswith("nvml")}
        module.__dict__.update({name: self._guarded(name, call) for name, call in calls.items()})
        return module

    def _guarded(self, name: str, call: Any) -> Any:
        def guarded(*arguments: Any) -> Any:
            if name == "nvmlDeviceGetUtilizationRates":
                self.readings += 1
                self.clock.now += self.reading_s
            self.hangs.wait()
            if name in self.refuses:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            if self.lost:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            return call(*arguments)

        return guarded

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != UUID:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return round(self.watts * self.clock.now * 1000)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return round(self.watts * 1000)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=self.utilisation, memory=7)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(used=self.memory, total=80_000_000_000)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes.items()]

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return self.temperature

    def nvmlGpmQueryDeviceSupport(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(isSupportedDevice=1)

    def nvmlGpmSampleAlloc(self) -> Any:
        self.samples += 1
        return pynvml.c_nvmlGpmSample_t()

    def nvmlGpmSampleFree(self, sample: Any) -> None:
        self.samples -= 1

    def nvmlGpmSampleGet(self, handle: str, sample: Any) -> Any:
        return sample

    def nvmlGpmMetricsGet(self, asked: Any) -> Any:
        assert asked.version == pynvml.NVML_GPM_METRICS_GET_VERSION
        assert asked.numMetrics == 1
        assert asked.metrics[0].metricId == pynvml.NVML_GPM_METRIC_SM_UTIL
        asked.metrics[0].value = self.sm_activity
        return asked


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    monkeypatch.setattr(nvml, "pynvml", fake.module())
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(uuid=UUID.removeprefix("GPU-")))
    return fake
