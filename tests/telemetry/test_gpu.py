"""GPUs and MIG slices behind a fake NVML, with supported and unsupported calls."""

import math
from dataclasses import replace

import pytest
import torch

from ddl.telemetry.gpu import Gpu, find_gpu
from ddl.telemetry.nvml import NvmlDevice, driver_version, gpu_uuid, nvml_devices
from tests.telemetry.conftest import SLICE, UUID, FakeDevice, FakeGpu

ALL = {
    "energy_wh",
    "gpu_utilisation_percent",
    "gpu_sm_activity_percent",
    "gpu_memory_peak_mb",
    "gpu_process_memory_peak_mb",
    "gpu_temperature_max_celsius",
}


def found(gpu_fraction: float = 1.0, uuid: str = UUID) -> Gpu:
    gpu = find_gpu(uuid, gpu_fraction)
    assert gpu is not None
    return gpu


def after(gpu: FakeGpu, mine: Gpu, seconds: float) -> dict[str, float]:
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
        ({"nvmlDeviceGetComputeRunningProcesses_v3"}, {"gpu_process_memory_peak_mb"}),
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
    assert find_gpu(UUID, 1.0) is None
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
    assert gpu_uuid(torch.device("cuda", 0)) == UUID
    assert gpu_uuid(torch.device("cpu")) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_real_library_without_a_driver_or_gpu_is_no_error() -> None:
    assert gpu_uuid(torch.device("cuda", 0)) is None
    assert find_gpu(UUID, 1.0) is None
    assert nvml_devices() == []
    assert driver_version() is None


def test_a_driver_that_is_too_old_for_gpm_has_every_other_figure(gpu: FakeGpu) -> None:
    gpu.lacks = {name for name in dir(gpu) if name.startswith("nvmlGpm")}
    mine = found()
    after(gpu, mine, 0.0)
    assert set(after(gpu, mine, 1.0)) == ALL - {"gpu_sm_activity_percent"}
    mine.close()
    assert gpu.open == 0


def test_a_driver_that_is_too_old_to_list_processes_is_no_error(gpu: FakeGpu) -> None:
    gpu.lacks = {"nvmlDeviceGetComputeRunningProcesses_v3"}
    assert "gpu_process_memory_peak_mb" not in found().read(0.0)


def test_a_slice_has_its_own_memory_and_activity_and_the_gpu_s_temperature(gpu: FakeGpu, mig: FakeDevice) -> None:
    uuid = gpu_uuid(torch.device("cuda", 0))
    assert uuid == SLICE
    mine = found(uuid=uuid)
    after(gpu, mine, 0.0)
    assert after(gpu, mine, 10.0) == pytest.approx(
        {
            "gpu_sm_activity_percent": 40.0,
            "gpu_memory_peak_mb": 3000.0,
            "gpu_process_memory_peak_mb": 2000.0,
            "gpu_temperature_max_celsius": 60.0,
        }
    ), "energy and utilisation are known of the whole GPU only"
    assert gpu.sampled == [(gpu, 7), (gpu, 7)]
    mine.close()
    assert (gpu.open, gpu.samples) == (0, 0)


def test_the_activity_of_a_slice_without_gpm_is_unknown(gpu: FakeGpu, mig: FakeDevice) -> None:
    gpu.refuses = {"nvmlGpmQueryDeviceSupport"}  # an A100
    mine = found(uuid=SLICE)
    after(gpu, mine, 0.0)
    assert set(after(gpu, mine, 1.0)) == {"gpu_memory_peak_mb", "gpu_process_memory_peak_mb", "gpu_temperature_max_celsius"}


def test_the_activity_of_a_gpu_instance_is_not_that_of_one_of_its_compute_instances(gpu: FakeGpu, mig: FakeDevice) -> None:
    mig.instance_slices = 3
    mine = found(uuid=SLICE)
    after(gpu, mine, 0.0)
    assert "gpu_sm_activity_percent" not in after(gpu, mine, 1.0)


@pytest.mark.parametrize("visible", [SLICE, f"MIG-{UUID}/7/0", f" {SLICE}", f"{SLICE},MIG-none"])
def test_if_cuda_reports_the_uuid_of_the_gpu_the_environment_names_the_slice(
    gpu: FakeGpu, mig: FakeDevice, visible: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.divide(1, "MIG-other", instance=9)
    gpu.cuda.uuid = UUID.removeprefix("GPU-")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_uuid(torch.device("cuda", 0)) == SLICE


def test_of_several_visible_slices_each_is_found_by_its_number(gpu: FakeGpu, mig: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.divide(1, "MIG-other", instance=9)
    gpu.cuda.uuid = UUID.removeprefix("GPU-")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{SLICE},MIG-other")
    assert [gpu_uuid(torch.device("cuda", index)) for index in (0, 1, 2)] == [SLICE, "MIG-other", None]


def test_if_cuda_reports_the_uuid_of_the_gpu_the_only_slice_is_meant(gpu: FakeGpu, mig: FakeDevice) -> None:
    gpu.cuda.uuid = UUID.removeprefix("GPU-")
    assert gpu_uuid(torch.device("cuda", 0)) == SLICE
    gpu.divide(5, "MIG-other")
    assert gpu_uuid(torch.device("cuda", 0)) is None, "it could be either"
    assert gpu.open == 0


def test_the_uuid_of_a_slice_goes_before_the_environment(gpu: FakeGpu, mig: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.divide(1, "MIG-other", instance=9)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-other")
    assert gpu_uuid(torch.device("cuda", 0)) == SLICE


def test_a_slice_without_nvml_has_no_uuid(gpu: FakeGpu, mig: FakeDevice) -> None:
    gpu.refuses = {"nvmlInit"}
    assert gpu_uuid(torch.device("cuda", 0)) is None


def another_kind() -> FakeDevice:
    return FakeDevice("GPU-a30", "NVIDIA A30", (8, 0), total=24_000_000_000, memory=1_000_000_000, processes={1: 1_000_000_000})


H100 = NvmlDevice(UUID, "NVIDIA H100 80GB HBM3", 80_000_000_000, 5_000_000_000, "570.86.15", "9.0")
A30 = NvmlDevice("GPU-a30", "NVIDIA A30", 24_000_000_000, 1_000_000_000, "570.86.15", "8.0")


def test_two_gpus_of_different_kinds(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.others = [another_kind()]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert nvml_devices() == [H100, A30]
    assert gpu.open == 0
    assert found(uuid="GPU-a30").read(0.0)["gpu_memory_peak_mb"] == 1000.0


def test_the_slices_of_a_gpu_follow_it(gpu: FakeGpu) -> None:
    gpu.divide(2, "MIG-one", total=10_000_000_000, memory=4_000_000)
    gpu.divide(6, "MIG-two", name="NVIDIA H100 80GB HBM3 MIG 2g.20gb", total=20_000_000_000, memory=7_000_000)
    gpu.others = [another_kind()]
    assert nvml_devices() == [
        NvmlDevice(UUID, H100.name, None, None, "570.86.15", "9.0"),
        NvmlDevice("MIG-one", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10_000_000_000, 4_000_000, "570.86.15", "9.0", slice_of=UUID),
        NvmlDevice("MIG-two", "NVIDIA H100 80GB HBM3 MIG 2g.20gb", 20_000_000_000, 7_000_000, "570.86.15", "9.0", slice_of=UUID),
        A30,
    ]


def test_a_lost_gpu_does_not_hide_the_others(gpu: FakeGpu) -> None:
    gpu.lost, gpu.others = True, [another_kind()]
    assert nvml_devices() == [A30]
    assert find_gpu("GPU-a30", 1.0) is not None


@pytest.mark.parametrize(
    ("call", "missing"),
    [
        ("nvmlDeviceGetMemoryInfo", {"memory_bytes": None, "used_bytes": None}),  # a GPU that shares the CPU's memory
        ("nvmlDeviceGetCudaComputeCapability", {"compute_capability": None}),
        ("nvmlSystemGetDriverVersion", {"driver_version": None}),
    ],
)
def test_what_a_driver_does_not_provide_of_a_gpu_is_none(gpu: FakeGpu, call: str, missing: dict[str, None]) -> None:
    gpu.refuses = {call}
    assert nvml_devices() == [replace(H100, **missing)]


def test_without_nvml_there_are_no_devices(gpu: FakeGpu) -> None:
    gpu.refuses = {"nvmlInit"}
    assert nvml_devices() == []
    assert driver_version() is None
