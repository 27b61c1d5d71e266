"""Accumulation of readings into metrics."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddl import checkpoints
from ddl.devices import Device
from ddl.telemetry.usage import Usage

CPU = torch.device("cpu")


def beside(other: Usage) -> Device:
    """The first of two workers, the second of which has used `other`."""
    noted: list[Tensor] = []

    class Second(Device):
        def sum(self, values: Tensor) -> Tensor:
            noted.append(values)
            return values

    class First(Device):
        def sum(self, values: Tensor) -> Tensor:
            return values + noted[0]

    other.averaged(Second(CPU, 1, 2))
    return First(CPU, 0, 2)


def used(*readings: tuple[dict[str, float], float]) -> Usage:
    usage = Usage()
    for reading, seconds in readings:
        usage.add(reading, seconds)
    return usage


def test_means_are_weighted_by_time_totals_add_up_and_peaks_stand() -> None:
    usage = used(
        ({"gpu_utilisation_percent": 0.0, "energy_wh": 1.0, "memory_peak_mb": 300.0}, 1.0),
        ({"gpu_utilisation_percent": 100.0, "energy_wh": 2.0, "memory_peak_mb": 200.0}, 3.0),
    )
    assert usage.metrics(workers=1) == {"device/gpu_utilisation_percent": 75.0, "device/energy_wh": 3.0, "device/memory_peak_mb": 300.0}


def test_what_was_not_measured_all_the_time_is_not_measured() -> None:
    whole = {"cpu_utilisation_percent": 50.0}
    lost = used(*[(whole | {"energy_wh": 1.0, "gpu_utilisation_percent": 90.0}, 1.0)] * 30, *[(whole, 1.0)] * 10)
    assert lost.metrics(workers=1) == {"device/cpu_utilisation_percent": 50.0}
    late = used(*[(whole, 1.0)] * 10, *[(whole | {"energy_wh": 1.0}, 1.0)] * 30)
    assert late.metrics(workers=1) == {"device/cpu_utilisation_percent": 50.0}


def test_a_reading_that_failed_now_and_then_costs_no_figure() -> None:
    usage = used(*[({"energy_wh": 1.0}, 1.0)] * 99, ({}, 1.0))
    assert usage.metrics(workers=1) == {"device/energy_wh": 99.0}


@pytest.mark.parametrize(("listed", "name"), [(0.0, "gpu_memory_peak_mb"), (700.0, "gpu_process_memory_peak_mb")])
def test_memory_is_the_process_s_where_the_driver_tells_and_the_name_says_which(listed: float, name: str) -> None:
    usage = used(
        ({"gpu_memory_peak_mb": 5000.0, "gpu_process_memory_peak_mb": 0.0}, 3.0),
        ({"gpu_memory_peak_mb": 5000.0, "gpu_process_memory_peak_mb": listed}, 1.0),
    )
    assert usage.metrics(workers=1) == {f"device/{name}": listed or 5000.0}


def test_the_allocated_peak_is_shown_next_to_the_process_s_memory_unless_nothing_was_allocated() -> None:
    usage = used(({"gpu_process_memory_peak_mb": 700.0, "gpu_allocated_peak_mb": 0.0}, 1.0))
    assert usage.metrics(workers=1) == {"device/gpu_process_memory_peak_mb": 700.0}
    usage.add({"gpu_process_memory_peak_mb": 700.0, "gpu_allocated_peak_mb": 100.0}, 1.0)
    assert usage.metrics(workers=1) == {"device/gpu_process_memory_peak_mb": 700.0, "device/gpu_allocated_peak_mb": 100.0}


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    usage = used(({"energy_wh": 1.0, "memory_peak_mb": 300.0, "cpu_utilisation_percent": 80.0}, 10.0))
    checkpoints.store(tmp_path, "trial", 3, {"usage": usage.state()})
    found = checkpoints.newest(tmp_path, "trial")
    assert found is not None
    again = Usage.of(found[1]["usage"])
    again.add({"energy_wh": 2.0, "memory_peak_mb": 200.0, "cpu_utilisation_percent": 40.0}, 10.0)
    assert again.metrics(workers=1) == {"device/energy_wh": 3.0, "device/memory_peak_mb": 300.0, "device/cpu_utilisation_percent": 60.0}


def test_of_several_workers_energy_is_summed_and_utilisation_averaged() -> None:
    mine = used(({"energy_wh": 1.0, "gpu_utilisation_percent": 60.0, "memory_peak_mb": 300.0}, 10.0))
    other = used(({"energy_wh": 2.0, "gpu_utilisation_percent": 80.0, "memory_peak_mb": 900.0}, 10.0))
    figures = {"device/energy_wh": 3.0, "device/gpu_utilisation_percent": 70.0, "device/memory_peak_mb": 300.0}

    together = mine.averaged(beside(other))

    assert together.metrics(workers=2) == pytest.approx(figures)
    again = Usage.of(together.state())
    assert again.averaged(beside(again)).metrics(workers=2) == pytest.approx(figures), "after a resume each holds its part of the sum"


def test_where_one_worker_s_gpu_does_not_tell_there_is_no_energy_of_both() -> None:
    mine = used(({"energy_wh": 1.0, "gpu_utilisation_percent": 60.0}, 10.0))
    silent = used(({"gpu_utilisation_percent": 80.0}, 10.0))
    assert mine.averaged(beside(silent)).metrics(workers=2) == {"device/gpu_utilisation_percent": 70.0}
