"""The description of a device in a trial's record."""

import json
import math
import os
import threading
from pathlib import Path

import pytest
import torch

from ddl.telemetry import describe, nvml
from ddl.telemetry.describe import describe_device
from tests.telemetry.conftest import SLICE, UUID, FakeDevice, FakeGpu

GPU = torch.device("cuda", 0)


def test_a_cpu_has_a_name_and_the_cores_that_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        described = describe_device(torch.device("cpu"))
    finally:
        os.sched_setaffinity(0, allowed)
    assert described["name"]
    assert described == {"type": "cpu", "name": described["name"], "cores": 1}


def test_a_gpu_as_json(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.cuda", "12.8")
    described = describe_device(GPU)
    assert json.loads(json.dumps(described)) == described
    assert described == {
        "type": "cuda",
        "name": "NVIDIA H100 80GB HBM3",
        "memory_bytes": 80_000_000_000,
        "compute_capability": "9.0",
        "cuda_version": "12.8",
        "driver_version": "570.86.15",
        "uuid": UUID,
        "mig_profile": None,
    }
    assert gpu.open == 0


def test_a_slice_with_its_profile_memory_and_uuid(gpu: FakeGpu, mig: FakeDevice) -> None:
    described = describe_device(GPU)
    assert described["name"] == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert (described["mig_profile"], described["memory_bytes"], described["uuid"]) == ("1g.10gb", 10_000_000_000, SLICE)


def test_without_nvml_the_rest_is_known(gpu: FakeGpu) -> None:
    gpu.refuses = {"nvmlInit"}
    described = describe_device(GPU)
    assert described["driver_version"] is None
    assert (described["name"], described["uuid"]) == ("NVIDIA H100 80GB HBM3", UUID)


def test_a_driver_that_never_answers_is_not_waited_for(gpu: FakeGpu, mig: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "ANSWER_S", 0.05)
    gpu.hangs.clear()
    try:
        described = describe_device(GPU)
    finally:
        gpu.hangs.set()
        for thread in threading.enumerate():
            if thread.name == "nvml-query":
                thread.join()
    assert (described["name"], described["driver_version"], described["uuid"]) == (mig.name, None, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_cuda_does_not_find_is_left_to_the_trial() -> None:
    assert describe_device(GPU) == {"type": "cuda"}


@pytest.mark.parametrize(
    ("cgroups", "files", "cores"),
    [
        ("0::/\n", {}, math.inf),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2.0),
        ("0::/of/the/host\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("4:cpu,cpuacct:/a\n3:pids:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "400000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 4.0),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ("4:cpuset:/\n3:name=systemd:/\n", {"cpuset/cpu.cfs_quota_us": "1", "cpuset/cpu.cfs_period_us": "100000"}, math.inf),
        (None, {}, math.inf),
    ],
)
def test_a_containers_quota_limits_the_cores(tmp_path: Path, cgroups: str | None, files: dict[str, str], cores: float) -> None:
    if cgroups is not None:
        (tmp_path / "cgroup").write_text(cgroups)
    for name, content in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(content)
    assert describe.cpu_quota(tmp_path / "cgroup", tmp_path / "fs") == cores


@pytest.mark.parametrize(("quota", "cores"), [(math.inf, None), (1.5, 1), (0.2, 1)])
def test_a_sweep_plans_whole_cores(monkeypatch: pytest.MonkeyPatch, quota: float, cores: int | None) -> None:
    monkeypatch.setattr(describe, "cpu_quota", lambda: quota)
    assert describe.usable_cores() == (cores or len(os.sched_getaffinity(0)))
