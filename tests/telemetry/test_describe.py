"""The description of a device in a trial's record."""

import json
import os
import threading

import pytest
import torch

from ddl.telemetry import gpu as gpu_module
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
    monkeypatch.setattr(gpu_module, "ANSWER_S", 0.05)
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
