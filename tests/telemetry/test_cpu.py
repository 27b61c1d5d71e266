"""Real processes with a fake clock, so that a percentage gives the number of counted CPU seconds."""

import mmap
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ddl.telemetry.cpu import FIND_CHILDREN_EVERY_S, ProcessTree

CHILD = """
import time
held = bytearray(100_000_000)
while time.process_time() < 0.5:
    pass
print("worked", flush=True)
input()
"""
"""Works for half a second of CPU time, holding 100 MB, and waits."""


@contextmanager
def child() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "worked\n"
        yield process
    finally:
        process.communicate("\n")


def begun(cores: int) -> ProcessTree:
    cpu = ProcessTree(cores, now=0.0)
    cpu.read(now=0.0)
    return cpu


def work(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def cpu_seconds(reading: dict[str, float], cores: int, seconds: float) -> float:
    return reading["cpu_utilisation_percent"] / 100 * cores * seconds


@pytest.mark.parametrize("cores", [1, 4])
def test_utilisation_is_of_the_cores_that_were_given(cores: int) -> None:
    cpu = begun(cores)
    began = time.process_time()
    work(0.3)
    reading = cpu.read(now=2.0)
    assert 0.28 <= cpu_seconds(reading, cores, 2.0) <= time.process_time() - began + 0.03
    idle = cpu.read(now=4.0)
    assert cpu_seconds(idle, cores, 2.0) < 0.1, "each reading is of the time since the one before"


def test_resident_memory_in_mb() -> None:
    cpu = begun(1)
    before = cpu.read(now=1.0)["memory_peak_mb"]
    with mmap.mmap(-1, 200_000_000) as held:  # not from memory that an earlier test has freed
        for _ in range(200):
            held.write(bytes(1_000_000))
        assert cpu.read(now=2.0)["memory_peak_mb"] == pytest.approx(before + len(held) / 1e6, abs=20)


def test_a_child_counts_while_it_lives_and_its_work_when_it_has_ended() -> None:
    cpu = begun(1)
    before = cpu.read(now=1.0)["memory_peak_mb"]
    with child():
        early = cpu.read(now=2.0)
        assert early["memory_peak_mb"] < before + 50, "children are looked for now and then only"
        reading = cpu.read(now=1.0 + FIND_CHILDREN_EVERY_S)
        assert reading["memory_peak_mb"] > before + 90
        assert cpu_seconds(reading, 1, FIND_CHILDREN_EVERY_S - 1.0) >= 0.48
    late = cpu.read(now=2.0 + FIND_CHILDREN_EVERY_S)
    assert abs(cpu_seconds(late, 1, 1.0)) < 0.3, "nothing is counted twice, or taken back"


def test_the_last_reading_misses_no_child() -> None:
    cpu = begun(1)
    with child():
        assert cpu_seconds(cpu.read(now=1.0, last=True), 1, 1.0) >= 0.48


def test_an_earlier_child_does_not_count() -> None:
    with child():
        cpu = begun(1)
        before = cpu.read(now=1.0)["memory_peak_mb"]
        reading = cpu.read(now=2.0, last=True)
        assert reading["memory_peak_mb"] < before + 50
        assert cpu_seconds(reading, 1, 1.0) < 0.3
