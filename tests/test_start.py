"""A mistake is named, a sweep is prepared and a finished run is reported before modules that take seconds are imported."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

import ddl
from ddl import gpus
from ddl.launch import BAD_INPUT
from tests.sweeps.command import ROOT

HEAVY = [
    "torch",
    "torchvision",
    "torchmetrics",
    "ray",
    "pandas",
    "pyarrow",
    "numpy",
    "scipy",
    "matplotlib",
    "PIL",
    "wandb",
    "plotly",
    "optuna",
    "fsspec",
    "gymnasium",
    "lightning",
]
"""Libraries whose import a mistake should not cost."""

SCRIPT = """
import json, sys
from rich.console import Console
from ddl.launch import main
from ddl.prepared_runs import prepare_runs

heavy = set(sys.argv[1:])
for line in sys.stdin:
    before, arguments = set(sys.modules), json.loads(line)
    if arguments[0] == "prepare":
        code = len(prepare_runs(Console(stderr=True), arguments[1], [], None, "ray", None, "runs"))
    else:
        code = main(arguments)
    print(json.dumps([code, sorted(heavy & (set(sys.modules) - before))]))
"""

SWEEP = ["--sweep", "augmentation"]
WRONG_YAML = """
task: classification
title: Wrong in several ways
metrc: {name: val/accuracy, mode: max}
space: {task.lr: {uniform: [2, 1]}, task.augmentaton: [none, light]}
seeds: many
"""
KEPT_RUN = str(ROOT / "docs" / "runs" / "cartpole-sample")
FUNCTION = "def train(lr: float):\n    yield {'val/loss': lr}\n"

MISTAKES = {
    "an unknown hyperparameter, in every sweep": ["--sweep", "all", "--scale", "smoke", "task.lrr=1"],
    "an unknown sweep": ["--sweep", "augmentaton"],
    "an unknown scale": [*SWEEP, "--scale", "tiny"],
    "a text for a number": [*SWEEP, "task.lr=fast"],
    "a number out of its range": [*SWEEP, "task.lr=-1"],
    "an unknown precision": [*SWEEP, "task.precision=fp31"],
    "a window without a centre": ["--sweep", "denoising", "task.ssim_window=4"],
    "more env runners than environments": ["--sweep", "cartpole", "task.num_env_runners=100000"],
    "a table that does not exist": ["--sweep", "table.yaml"],
    "more cores than there are": [*SWEEP, "resources.cpus=100000"],
    "more GPUs than there are": [*SWEEP, "resources.gpus=1"],
    "an unknown setting": [*SWEEP, "sedes=3"],
    "a scheduler for two sweeps": ["--sweep", "augmentation,regularisation", "early_stopping.scheduler=asha"],
    "a URL that cannot hold runs": [*SWEEP, "--out", "ftp://host/runs"],
    "mistakes in a YAML file": ["--sweep", "wrong.yaml"],
    "a function without a value": ["--sweep", "train.py:train", "metric=val/loss"],
    "a file in place of the folder": [*SWEEP, "--scale", "smoke", "--out", "wrong.yaml"],
    "a run to resume that does not exist": ["--resume", "runs/none"],
    "a run to report that does not exist": ["--report", "runs/none", "--check"],
    "a run to export that does not exist": ["--export", "runs/none", "abc"],
    "a run to reproduce that does not exist": ["--reproduce", "runs/none/trials/abc"],
    "a data set that does not exist": ["--prepare-data", "mnist", "cifar_10"],
    "a trial to export that does not exist": ["--export", KEPT_RUN, "abc"],
    "a trial to reproduce that does not exist": ["--reproduce", f"{KEPT_RUN}/trials/abc"],
    "a run to publish that does not exist": ["--publish", "runs/none"],
    "a run to confirm that does not exist": ["--confirm", "runs/none"],
}
PREPARED = "every sweep, prepared"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[str]]]:
    """Exit code of each command, in one process after another, and the heavy libraries that it was the first to import."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "wrong.yaml").write_text(WRONG_YAML)
    (folder / "table.yaml").write_text("task: tabular\ntitle: Table\nmetric: {name: val/rmse, mode: min}\nset: {task.path: none.npz}\n")
    (folder / "train.py").write_text(FUNCTION)
    commands = MISTAKES | {PREPARED: ["prepare", "all"]}
    return dict(zip(commands, run_commands(folder, commands.values()), strict=True))


def run_commands(folder: Path, commands: Iterable[Sequence[str]]) -> list[tuple[int, list[str]]]:
    """Run commands one after another, in one new process in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *HEAVY],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        input="\n".join(map(json.dumps, commands)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if re.match(r"\[\d+, \[", line)]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_without_heavy_imports(imported: dict[str, tuple[int, list[str]]], mistake: str) -> None:
    assert imported[mistake] == [BAD_INPUT, []]


def test_every_sweep_is_prepared_without_heavy_imports(imported: dict[str, tuple[int, list[str]]]) -> None:
    prepared, heavy = imported[PREPARED]
    assert prepared >= 10
    assert heavy == []


REPORTING = {"numpy", "scipy", "pandas", "pyarrow", "PIL", "plotly"}


def test_a_finished_run_is_reported_and_resumed_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("start_train.py").write_text(FUNCTION)
    run = ddl.run_sweep("start_train.py:train", ["lr=0.5,0.25", "seeds=1", "metric=val/loss", "wandb.mode=disabled"], executor="inline")
    for code, heavy in run_commands(tmp_path, [["--report", str(run.folder), "--check"], ["--resume", str(run.folder)]]):
        assert code == 0
        assert set(heavy) <= REPORTING


def test_a_machine_without_a_driver_is_not_asked_by_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "NVIDIA_LIBRARY", str(tmp_path / "libcuda.so.1"))
    monkeypatch.setattr(gpus, "AMD_DEVICE", tmp_path / "kfd")
    monkeypatch.setattr(gpus, "nvml_devices", list)
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("torch was asked"))
    assert gpus.machine_gpus() == gpus.MachineGpus(())


def test_the_driver_of_a_sweep_under_ray_does_without_torch(tmp_path: Path) -> None:
    sweep = ["--sweep", "cartpole_table", "--scale", "smoke", "seeds=2", "wandb.mode=disabled"]
    planned, trained = run_commands(tmp_path, [[*sweep, "--plan"], sweep])
    assert planned == [0, ["numpy", "scipy"]]
    assert trained[0] == 0
    assert not {"torch", "wandb"} & set(trained[1])
    assert "ray" in trained[1]
