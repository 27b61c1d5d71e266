"""Readings of a fake GPU, with supported and unsupported calls."""

import math

import pytest
import torch

from ddl.telemetry import nvml
from tests.telemetry.conftest import UUID, FakeGpu

ALL = {
    "energy_wh",
    "gpu_utilisation_percent",
    "gpu_sm_activity_percent",
    "gpu_memory_peak_mb",
    "gpu_process_memory_peak_mb",
    "gpu_temperature_max_celsius",
}


def found(gpu_fraction: float = 1.0) -> nvml.Gpu:
    gpu = nvml.find_gpu(UUID, gpu_fraction)
    assert gpu is not None
    return gpu


def after(gpu: FakeGpu, mine: nvml.Gpu, seconds: float) -> dict[str, float]:
    gpu.clock.now += seconds
    return mine.read(gpu.clock.now)


def test_everything_in_the_units_of_its_name(gpu: FakeGpu) -> None:
    mine = found()
    first = after(gpu, mine, 0.0)
    assert set(first) == ALL - {"energy_wh", "gpu_sm_activity_percent"}, "these are of the time between two readings"
    assert after(gpu, mine, 10.0) == pytest.approx(
        {
            "energy_wh": 1.0,  # 360 W for 10 s
            "gpu_utilisation_percent": 80.0,
            "gpu_sm_activity_percent": 40.0,
            "gpu_memory_peak_mb": 5000.0,
            "gpu_process_memory_peak_mb": 2000.0,
            "gpu_temperature_max_celsius": 60.0,
        }
    )


def test_a_shared_gpu_is_divided_but_not_its_memory_and_temperature(gpu: FakeGpu) -> None:
    mine = found(gpu_fraction=0.25)
    after(gpu, mine, 0.0)
    reading = after(gpu, mine, 10.0)
    assert (reading["energy_wh"], reading["gpu_utilisation_percent"], reading["gpu_sm_activity_percent"]) == pytest.approx((0.25, 20, 10))
    assert (reading["gpu_memory_peak_mb"], reading["gpu_process_memory_peak_mb"]) == (5000.0, 2000.0)
    assert reading["gpu_temperature_max_celsius"] == 60.0


def test_without_a_counter_energy_is_the_area_under_the_power(gpu: FakeGpu) -> None:
    gpu.refuses = {"nvmlDeviceGetTotalEnergyConsumption"}
    mine = found()
    total = 0.0
    for watts, seconds in ((100.0, 0.0), (200.0, 10.0), (300.0, 20.0)):
        gpu.watts = watts
        total += after(gpu, mine, seconds).get("energy_wh", 0.0)
    assert total == pytest.approx((150 * 10 + 250 * 20) / 3600)


@pytest.mark.parametrize(
    ("calls", "missing"),
    [
        ({"nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"}, {"energy_wh"}),
        ({"nvmlDeviceGetUtilizationRates"}, {"gpu_utilisation_percent"}),
        ({"nvmlGpmQueryDeviceSupport"}, {"gpu_sm_activity_percent"}),
        ({"nvmlGpmSampleGet"}, {"gpu_sm_activity_percent"}),
        ({"nvmlGpmMetricsGet"}, {"gpu_sm_activity_percent"}),
        ({"nvmlDeviceGetMemoryInfo"}, {"gpu_memory_peak_mb"}),
        ({"nvmlDeviceGetComputeRunningProcesses"}, {"gpu_process_memory_peak_mb"}),
        ({"nvmlDeviceGetTemperature"}, {"gpu_temperature_max_celsius"}),
    ],
)
def test_an_unsupported_call_leaves_out_its_figure_alone(gpu: FakeGpu, calls: set[str], missing: set[str]) -> None:
    gpu.refuses = calls
    mine = found()
    after(gpu, mine, 0.0)
    assert set(after(gpu, mine, 1.0)) == ALL - missing


def test_a_figure_that_is_no_number_is_left_out(gpu: FakeGpu) -> None:
    gpu.sm_activity = math.nan
    mine = found()
    after(gpu, mine, 0.0)
    assert set(after(gpu, mine, 1.0)) == ALL - {"gpu_sm_activity_percent"}


def test_a_gpu_that_is_lost_says_nothing_and_is_closed_in_peace(gpu: FakeGpu) -> None:
    gpu.lives = 0
    mine = found()
    gpu.readings = 1
    assert mine.read(gpu.clock.now) == {}
    mine.close()


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_without_a_driver_or_such_a_gpu_there_is_nothing_to_ask(gpu: FakeGpu, call: str) -> None:
    gpu.refuses = {call}
    assert nvml.find_gpu(UUID, 1.0) is None
    assert gpu.open == 0


def test_what_was_opened_is_closed(gpu: FakeGpu) -> None:
    mine = found()
    assert (gpu.open, gpu.samples) == (1, 2)
    mine.close()
    assert (gpu.open, gpu.samples) == (0, 0)


def test_the_process_s_memory_is_0_where_the_driver_does_not_list_it(gpu: FakeGpu) -> None:
    gpu.processes = {1: 1_000_000_000}
    assert found().read(0.0)["gpu_process_memory_peak_mb"] == 0


def test_a_device_is_known_by_its_uuid_and_a_cpu_has_none(gpu: FakeGpu) -> None:
    assert nvml.gpu_uuid(torch.device("cuda", 0)) == UUID
    assert nvml.gpu_uuid(torch.device("cpu")) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_real_library_without_a_driver_or_gpu_is_no_error() -> None:
    assert nvml.gpu_uuid(torch.device("cuda", 0)) is None
    assert nvml.find_gpu(UUID, 1.0) is None
