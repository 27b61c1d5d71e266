"""The sampler with real trials: the metrics in their reports."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import torch
from pydantic.dataclasses import dataclass

from ddl import checkpoints
from ddl.devices import Device
from ddl.progress import Diverged, Progress, State
from ddl.sweeps import worker
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.worker import run_trial
from ddl.tasks.task import STRICT, Count, Task
from ddl.telemetry.device_sampler import DeviceSampler
from ddl.trial_report import TrialReport
from tests.telemetry.conftest import FakeDevice, FakeGpu
from tests.waiting import wait_until

CPU, GPU = Device(torch.device("cpu")), Device(torch.device("cuda", 0))
EVERYWHERE = {"device/cpu_utilisation_percent", "device/memory_peak_mb"}
ON_A_GPU = {
    "device/energy_wh",
    "device/gpu_utilisation_percent",
    "device/gpu_sm_activity_percent",
    "device/gpu_process_memory_peak_mb",
    "device/gpu_temperature_max_celsius",
}


@dataclass(frozen=True, config=STRICT)
class Patient(Task):
    """Does `steps` steps that touch no device; each calls `between`, then the last ends as `ending` says."""

    steps: Count
    ending: str

    between: ClassVar[Callable[[], None]]

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        for step in range(1 if resume is None else resume["step"] + 1, self.steps + 1):
            Patient.between()
            if step == self.steps and self.ending == "failed":
                raise RuntimeError("meant to fail")
            if step == self.steps and self.ending == "diverged":
                raise Diverged("meant to diverge")
            yield Progress(step=step, total_steps=self.steps, state=lambda step=step: {"step": step}, metrics={"val/done": float(step)})


def assignment(folder: Path, steps: int = 3, ending: str = "finished", gpus: float = 0.0) -> Assignment:
    return Assignment("trial", Patient(seed=0, steps=steps, ending=ending), 1, 1, gpus, folder, checkpoint_every_s=0.0)


def device_metrics(report: TrialReport) -> dict[str, float]:
    assert report.kind == "ended"
    return {name: value for name, value in report.metrics.items() if name.startswith("device/")}


def samplers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "device-sampler"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patient, "between", lambda: None, raising=False)


@pytest.fixture
def ten_readings_a_step(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is 10 s after the one before, by the sampler's clock; steps wait for them."""
    gpu.reading_s = 10.0

    def wait() -> None:
        until = gpu.readings + 10
        while gpu.readings < until:
            time.sleep(0.001)

    monkeypatch.setattr(Patient, "between", wait)
    monkeypatch.setattr(worker, "DeviceSampler", partial(DeviceSampler, every_s=0.0, clock=gpu.clock))


@pytest.mark.parametrize("ending", ["finished", "failed", "diverged"])
def test_however_a_trial_ends_its_last_report_says_what_it_used(ending: str, tmp_path: Path) -> None:
    *_, last = run_trial(assignment(tmp_path, ending=ending), CPU)
    assert last.status == ending
    metrics = device_metrics(last)
    assert set(metrics) == EVERYWHERE
    resident = psutil.Process().memory_info().rss / 1e6
    assert 0.5 * resident < metrics["device/memory_peak_mb"] < 2 * resident
    assert ("time/train_s" in last.metrics) == (ending == "finished")


@pytest.mark.usefixtures("ten_readings_a_step")
def test_on_a_gpu_every_figure_is_there(gpu: FakeGpu, tmp_path: Path) -> None:
    *_, last = run_trial(assignment(tmp_path, gpus=1.0), GPU)
    metrics = device_metrics(last)
    assert set(metrics) == EVERYWHERE | ON_A_GPU
    seconds = 10.0 * (gpu.readings - 1)
    assert metrics["device/energy_wh"] == pytest.approx(360 * seconds / 3600)
    assert metrics["device/gpu_utilisation_percent"] == pytest.approx(80.0)
    assert metrics["device/gpu_temperature_max_celsius"] == 60.0
    assert gpu.open == 0, "the driver is let go of"


@pytest.mark.usefixtures("ten_readings_a_step")
@pytest.mark.parametrize(("gpus", "gpu_fraction"), [(0.25, 0.25), (2.0, 1.0)])
def test_a_trial_with_a_share_of_a_gpu_is_given_that_share(gpu: FakeGpu, tmp_path: Path, gpus: float, gpu_fraction: float) -> None:
    *_, last = run_trial(assignment(tmp_path, gpus=gpus), GPU)
    metrics = device_metrics(last)
    assert metrics["device/energy_wh"] == pytest.approx(gpu_fraction * 360 * 10.0 * (gpu.readings - 1) / 3600)
    assert metrics["device/gpu_utilisation_percent"] == pytest.approx(gpu_fraction * 80.0)


@pytest.mark.usefixtures("ten_readings_a_step")
def test_a_measured_report_carries_what_was_used_so_far_for_a_trial_that_is_stopped(tmp_path: Path) -> None:
    reports = [report for report in run_trial(assignment(tmp_path, steps=4, gpus=1.0), GPU) if report.kind == "measured"]
    energies = [report.usage["device/energy_wh"] for report in reports]
    assert energies == sorted(set(energies)), "it grows"
    assert all(set(report.usage) == EVERYWHERE | ON_A_GPU for report in reports)
    assert all("device/energy_wh" not in report.metrics for report in reports), "recorded once, at the end"


@pytest.mark.usefixtures("ten_readings_a_step")
def test_a_gpu_that_disappears_midway_is_not_measured_and_fails_nothing(gpu: FakeGpu, tmp_path: Path) -> None:
    gpu.lives = 15
    *_, last = run_trial(assignment(tmp_path, gpus=1.0), GPU)
    assert last.status == "finished"
    assert set(device_metrics(last)) == EVERYWHERE


def test_without_a_driver_a_trial_runs_and_has_the_cpu_s_figures(gpu: FakeGpu, tmp_path: Path) -> None:
    gpu.refuses = {"nvmlInit"}
    *_, last = run_trial(assignment(tmp_path, gpus=1.0), GPU)
    assert last.status == "finished"
    assert set(device_metrics(last)) == EVERYWHERE


def test_a_driver_that_never_answers_holds_up_no_trial(gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddl.telemetry.device_sampler.STOP_S", 0.05)
    gpu.hangs.clear()
    try:
        *_, last = run_trial(assignment(tmp_path, gpus=1.0), GPU)
        assert last.status == "finished"
        assert device_metrics(last) == {}
    finally:
        gpu.hangs.set()
        for thread in samplers():
            thread.join()


@pytest.mark.usefixtures("ten_readings_a_step")
def test_a_resumed_trial_goes_on_from_what_it_had_used(gpu: FakeGpu, tmp_path: Path) -> None:
    first = run_trial(assignment(tmp_path, steps=4, gpus=1.0), GPU)
    for report in first:
        if report.step == 3:
            break
    first.close()
    found = checkpoints.newest(tmp_path / "checkpoints", "trial")
    assert found is not None
    step, saved = found
    assert step == 2
    before = saved["usage"]["amounts"]["energy_wh"]
    assert before >= 360 * 10.0 * 18 / 3600
    readings = gpu.readings

    *_, last = run_trial(assignment(tmp_path, steps=4, gpus=1.0), GPU)

    now = 360 * 10.0 * (gpu.readings - readings - 1) / 3600
    assert device_metrics(last)["device/energy_wh"] == pytest.approx(before + now)


@pytest.mark.usefixtures("ten_readings_a_step")
def test_a_checkpoint_that_says_nothing_of_use_leaves_unmeasured_what_is_not_known(tmp_path: Path) -> None:
    state = {"elapsed_s": 10_000.0, "task": {"step": 1}}
    checkpoints.store(tmp_path / "checkpoints", "trial", 1, state)
    *_, last = run_trial(assignment(tmp_path, gpus=1.0), GPU)
    assert last.status == "finished"
    assert device_metrics(last) == {}


@pytest.mark.usefixtures("ten_readings_a_step")
def test_on_a_slice_only_its_own_figures_are_there(mig: FakeDevice, tmp_path: Path) -> None:
    *_, last = run_trial(assignment(tmp_path, gpus=1.0), GPU)
    assert set(device_metrics(last)) == EVERYWHERE | ON_A_GPU - {"device/energy_wh", "device/gpu_utilisation_percent"}


@pytest.mark.usefixtures("ten_readings_a_step")
def test_the_allocated_peak_is_the_trial_s_and_not_that_of_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's allocator lives as long as the process, and keeps its peak until it is reset."""
    peaks = {"peak": 0}
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device=None: peaks["peak"])
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device=None: peaks.update(peak=0))
    wait = Patient.between

    def trained(name: str, used: int) -> dict[str, float]:
        def step() -> None:
            peaks["peak"] = max(peaks["peak"], used)
            wait()

        monkeypatch.setattr(Patient, "between", step)
        *_, last = run_trial(assignment(tmp_path / name, gpus=1.0), GPU)
        return device_metrics(last)

    assert trained("large", 9_000_000_000)["device/gpu_allocated_peak_mb"] == 9000.0
    assert trained("small", 2_000_000_000)["device/gpu_allocated_peak_mb"] == 2000.0


def test_the_thread_ends_with_the_trial_also_where_nobody_waits_for_its_end(tmp_path: Path) -> None:
    trial = run_trial(assignment(tmp_path), CPU)
    while next(trial).kind != "measured":
        pass
    assert samplers()
    trial.close()
    assert not samplers()


def test_what_follows_a_trial_is_no_part_of_its_usage() -> None:
    """Later members of a stack report after the models of earlier ones were timed."""
    now = [0.0]
    with DeviceSampler(CPU, cores=1, gpu_fraction=0.0, every_s=0.01, clock=lambda: now[0]) as sampler:
        now[0] = 10.0
        wait_until(lambda: sampler.usage().seconds == 10.0 and sampler.usage().metrics(1), "a reading")
    at_end = sampler.usage()
    now[0] = 1000.0
    assert sampler.usage() == at_end
    assert "device/memory_peak_mb" in sampler.usage().metrics(1), "not left out for a gap"
