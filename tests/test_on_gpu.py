"""ddl on a real GPU: the sections of benchmarks/gpu that check whether it is right, without those that measure how fast it is."""

from pathlib import Path

import pytest
import torch

from ddl.devices import Device
from ddl.gpus import machine_gpus

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", ["device", "tasks", "precision", "memory", "resume", "latency"])
def test_a_section_of_the_check_passes(name: str, tmp_path: Path) -> None:
    gpus = machine_gpus()
    if not gpus.usable:
        pytest.skip(" ".join(["no usable GPU.", *gpus.problems]))
    from benchmarks.gpu.sections import SECTIONS, Section

    section = Section(Device(torch.device("cuda", gpus.usable[0].index)), tmp_path, rehearsal=False)
    SECTIONS[name][0](section)
    assert [(check, detail) for check, passed, detail in section.checks if not passed] == []
