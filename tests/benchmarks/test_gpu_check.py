"""The check on a GPU (`python -m benchmarks.gpu`), as far as it runs without one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as check
from benchmarks.gpu.sections import SECTIONS

ROOT = Path(__file__).resolve().parents[2]


def test_the_seconds_of_all_sections_fit_into_the_check(monkeypatch, tmp_path):
    assert sum(seconds for _, seconds in SECTIONS.values()) <= check.SECONDS
    names = list(SECTIONS)
    assert check._limit_s(names[0], names[1:], check.SECONDS) == SECTIONS[names[0]][1]
    assert check._limit_s(names[-1], [], 100) == 100, "what earlier sections have left"
    assert check._limit_s(names[0], names[1:], 12) == 12


def test_a_section_that_is_not_reached_is_reported_and_fails_the_check(monkeypatch, tmp_path, capsys):
    (tmp_path / "memory.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["gpu", "--sections", "memory", "--seconds", "3", "--out", str(tmp_path)])
    assert check.main() == 1
    assert "FAILED memory: the section ends (not reached: 3 s were left)" in capsys.readouterr().out
    assert not (tmp_path / "memory.json").exists(), "a later section would read it"


@pytest.mark.campaign
def test_the_check_is_rehearsed_without_a_gpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--sections", "device", "baselines", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    device, baselines = json.loads((tmp_path / "results.json").read_text())
    assert "type" in {name for name, _, _ in device["rows"]}
    rows = {name: value for name, value, _ in baselines["rows"]}
    own, naive = rows["ddl, none augmentation, fp32"], rows["naive loop, none augmentation"]
    assert rows["ddl / naive loop, none augmentation"] == pytest.approx(own / naive)
