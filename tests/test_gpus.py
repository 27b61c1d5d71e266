"""Which GPUs of a machine are usable. What PyTorch and NVML answer about the machine is simulated."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from ddl import gpus
from ddl.gpus import has_kernels, machine_gpus
from ddl.prepared_runs import default_scale
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.inline_executor import InlineExecutor
from ddl.sweeps.private_executor import PrivateExecutor

KERNELS = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@dataclass(frozen=True)
class SeenByNvml:
    name: str
    uuid: str = ""
    compute_capability: str = "9.0"
    slice_of: str | None = None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Simulates a machine with these GPUs, as (name, compute capability), and a CUDA that starts or fails with an error."""

    def machine(*found: tuple[str, tuple[int, int]], failure: Exception | None = None, kernels: list[str] = KERNELS) -> None:
        def init() -> None:
            if failure:
                raise failure

        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: failure is None and bool(found))
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: found[device.index][0])
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: found[device.index][1])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: kernels)
        monkeypatch.setattr(gpus, "gpu_uuid", lambda device: f"GPU-{device.index}")
        monkeypatch.setattr(gpus, "nvml_devices", lambda: [SeenByNvml(name) for name, _ in found])

    return machine


def test_a_machine_without_gpus_has_no_problem(machine):
    machine()
    assert machine_gpus() == gpus.MachineGpus((), ())
    assert default_scale() == ("sample", "no GPU was found; --scale paper runs the study's own size")


def test_usable_gpus_have_an_index_a_uuid_and_a_name(machine):
    machine(("NVIDIA H100", (9, 0)), ("NVIDIA A100", (8, 0)))
    assert [(gpu.index, gpu.uuid, gpu.name) for gpu in machine_gpus().usable] == [(0, "GPU-0", "NVIDIA H100"), (1, "GPU-1", "NVIDIA A100")]
    assert default_scale() == ("paper", "NVIDIA H100 was found")


def test_a_gpu_without_kernels_is_left_out_with_the_reason(machine):
    machine(("Tesla P100", (6, 0)), ("NVIDIA A100", (8, 0)))
    found = machine_gpus()
    assert [(gpu.index, gpu.name) for gpu in found.usable] == [(1, "NVIDIA A100")]
    (problem,) = found.problems
    assert problem.startswith("Tesla P100: its compute capability is 6.0, but PyTorch ")
    assert "has kernels for sm_75, sm_80, sm_86, sm_90, sm_100, sm_120 only." in problem


def test_cuda_that_does_not_start_is_not_a_gpu(machine):
    machine(("NVIDIA A100", (8, 0)), failure=RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nMore."))
    assert machine_gpus() == gpus.MachineGpus(
        (), ("NVIDIA A100: CUDA does not start: The NVIDIA driver on your system is too old (found version 11040).",)
    )
    assert default_scale() == ("sample", "no usable GPU was found; --scale paper runs the study's own size")


def test_the_warning_of_a_failing_driver_is_the_reason_and_is_not_shown(machine, monkeypatch, recwarn):
    machine(("NVIDIA A100", (8, 0)))

    def is_available() -> bool:
        warnings.warn("CUDA initialization: CUDA unknown error - this may be due to an incorrectly set up environment.", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    (problem,) = machine_gpus().problems
    assert problem.startswith("NVIDIA A100: CUDA does not start: CUDA initialization: CUDA unknown error")
    assert not recwarn.list


def test_cuda_that_fails_at_the_first_question_is_not_a_gpu(machine, monkeypatch):
    def lost(device: torch.device) -> str:
        raise RuntimeError("CUDA error: unknown error\nCUDA kernel errors might be reported asynchronously")

    machine(("NVIDIA A100", (8, 0)))
    monkeypatch.setattr(torch.cuda, "get_device_name", lost)
    assert machine_gpus().problems == ("NVIDIA A100: CUDA does not start: CUDA error: unknown error.",)


def test_a_pytorch_without_cuda_is_named(machine, monkeypatch):
    machine(("NVIDIA A100", (8, 0)), failure=AssertionError("Torch not compiled with CUDA enabled"))
    monkeypatch.setattr(torch.version, "cuda", None)
    (problem,) = machine_gpus().problems
    assert "is built without CUDA" in problem


def test_gpus_that_the_user_hides_are_no_problem(machine, monkeypatch):
    machine(("NVIDIA A100", (8, 0)), failure=RuntimeError("No CUDA GPUs are available"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine_gpus() == gpus.MachineGpus(())


def test_all_slices_of_a_gpu_in_mig_mode_are_used_although_cuda_shows_one(machine, monkeypatch):
    machine(("NVIDIA H100 MIG 3g.40gb", (9, 0)))
    name = "NVIDIA H100 MIG 3g.40gb"
    seen = [SeenByNvml("NVIDIA H100"), SeenByNvml(name, "MIG-a", slice_of="GPU-0"), SeenByNvml(name, "MIG-b", slice_of="GPU-0")]
    monkeypatch.setattr(gpus, "nvml_devices", lambda: seen)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # restored after the test
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with PrivateExecutor(lambda: None, 60.0) as executor:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-a,MIG-b"
        assert executor.capacity().gpus == 2, "also when they are named"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-b")
    assert [gpu.uuid for gpu in machine_gpus().usable] == ["MIG-b"], "the user has chosen"


@pytest.mark.parametrize(
    ("named", "uuid", "expected"), [(None, "GPU-x", "GPU-x"), (None, None, "1"), ("", None, "1"), ("MIG-a,MIG-b", None, "MIG-b")]
)
def test_a_gpu_is_shown_by_its_uuid_or_else_as_cuda_numbers_it(named, uuid, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named or "")
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    gpus.use_only([gpus.CudaGpu(1, uuid, "NVIDIA A100", (8, 0))])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_the_first_gpu_is_not_hidden_if_its_uuid_is_unknown(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # restored after the test
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    gpus.use_only([gpus.CudaGpu(0, None, "NVIDIA A100", (8, 0))])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((7, 5), KERNELS, True),
        ((7, 0), KERNELS, False),
        ((6, 0), KERNELS, False),
        ((8, 9), KERNELS, True),
        ((8, 0), ["sm_86"], False),
        ((10, 3), KERNELS, True),
        ((12, 0), KERNELS, True),
        ((11, 0), KERNELS, False),
        ((12, 0), ["sm_80", "compute_80"], True),
        ((7, 0), ["sm_80", "compute_80"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a"], False),
        ((9, 0), ["gfx90a", "gfx1100"], True),
    ],
)
def test_machine_code_runs_within_a_major_version_and_ptx_on_later_ones(capability, kernels, runs):
    assert has_kernels(capability, kernels) == runs


def test_a_trial_on_the_cpu_hides_no_gpu_from_the_next_sweep(machine, tmp_path):
    """`--executor inline` trains several sweeps in one process, of which some need no GPU."""
    machine(("NVIDIA A100", (8, 0)))
    task = SimpleNamespace()
    with InlineExecutor() as executor:
        before = executor.capacity().gpus
        assert executor.device(Assignment("a", task, 1, 1, 0.0, tmp_path, 1.0)).torch.type == "cpu"
        assert executor.capacity().gpus == before == 1
        assert executor.device(Assignment("b", task, 1, 1, 1.0, tmp_path, 1.0)).torch.type == "cuda"
