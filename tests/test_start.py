"""A mistake is named, a sweep is prepared and a finished run is reported before modules that take seconds are imported."""

import json
import os
import re
import subprocess
import sys
import tempfile
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
import json, os, sys
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
    sys.stderr.flush()
    print(json.dumps([code, sorted(heavy & (set(sys.modules) - before)), os.fstat(2).st_size]))
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

NO_RUN = "runs/none: not a run folder, it has no ledger.sqlite."
NO_TRIAL = "cartpole-sample: has no trial 'abc'. Known names: "
MISTAKES: dict[str, tuple[list[str], str]] = {
    "an unknown hyperparameter, in every sweep": (
        ["--sweep", "all", "--scale", "smoke", "task.lrr=1"],
        "command line: task.lrr: unknown key. Did you mean task.lr?",
    ),
    "an unknown sweep": (["--sweep", "augmentaton"], "--sweep 'augmentaton': unknown sweep. Did you mean augmentation?"),
    "an unknown scale": ([*SWEEP, "--scale", "tiny"], "--scale: 'tiny' is unknown. Use smoke, sample, paper."),
    "a text for a number": ([*SWEEP, "task.lr=fast"], "command line: task.lr: should be a valid number, not 'fast'."),
    "a number out of its range": ([*SWEEP, "task.lr=-1"], "command line: task.lr: should be greater than 0, not -1."),
    "an unknown precision": ([*SWEEP, "task.precision=fp31"], "command line: task.precision: precision: 'fp31' is unknown."),
    "a window without a centre": (
        ["--sweep", "denoising", "task.ssim_window=4"],
        "command line: task.ssim_window: an SSIM window of 4 has no centre pixel.",
    ),
    "more env runners than environments": (
        ["--sweep", "cartpole", "task.num_env_runners=100000"],
        "command line: task.num_env_runners: 100000 runners cannot share 32 environments.",
    ),
    "a table that does not exist": (["--sweep", "table.yaml"], "table: reads none.npz, but there is no such file or folder in "),
    "more cores than there are": ([*SWEEP, "resources.cpus=100000"], "resources.cpus: 100000 per worker, but no node has more than "),
    "more GPUs than there are": ([*SWEEP, "resources.gpus=1"], "resources.gpus: 1 per worker, but no node has more than 0."),
    "an unknown setting": ([*SWEEP, "sedes=3"], "command line: sedes: unknown key. Did you mean seeds?"),
    "a scheduler for two sweeps": (
        ["--sweep", "augmentation,regularisation", "early_stopping.scheduler=asha"],
        "early_stopping.scheduler: compares the trials of one sweep.",
    ),
    "a URL that cannot hold runs": ([*SWEEP, "--out", "ftp://host/runs"], "--out ftp://host/runs: not a usable store."),
    "mistakes in a YAML file": (["--sweep", "wrong.yaml"], "wrong.yaml:4: metrc: unknown key. Did you mean metric?"),
    "a function without a value": (["--sweep", "train.py:train", "metric=val/loss"], "train.py:1: task.lr: missing. Give it a value."),
    "a file in place of the folder": (
        [*SWEEP, "--scale", "smoke", "--out", "wrong.yaml"],
        "--out wrong.yaml: no folder can be created there",
    ),
    "a run to resume that does not exist": (["--resume", "runs/none"], NO_RUN),
    "a run to report that does not exist": (["--report", "runs/none", "--check"], NO_RUN),
    "a run to export that does not exist": (["--export", "runs/none", "abc"], NO_RUN),
    "a run to reproduce that does not exist": (["--reproduce", "runs/none/trials/abc"], NO_RUN),
    "a data set that does not exist": (
        ["--prepare-data", "mnist", "cifar_10"],
        "data set 'cifar_10': unknown. Did you mean cifar10?",
    ),
    "a trial to export that does not exist": (["--export", KEPT_RUN, "abc"], NO_TRIAL),
    "a trial to reproduce that does not exist": (["--reproduce", f"{KEPT_RUN}/trials/abc"], NO_TRIAL),
    "a run to publish that does not exist": (["--publish", "runs/none"], NO_RUN),
    "a run to confirm that does not exist": (["--confirm", "runs/none"], NO_RUN),
}
"""Arguments, and a part of the message."""
PREPARED = "every sweep, prepared"

Done = tuple[int, list[str], str]
"""Exit code of a command, the heavy libraries that it was the first to import, and its standard error."""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What each command did, in one process after another."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "wrong.yaml").write_text(WRONG_YAML)
    (folder / "table.yaml").write_text("task: tabular\ntitle: Table\nmetric: {name: val/rmse, mode: min}\nset: {task.path: none.npz}\n")
    (folder / "train.py").write_text(FUNCTION)
    commands = {mistake: arguments for mistake, (arguments, _) in MISTAKES.items()} | {PREPARED: ["prepare", "all"]}
    return dict(zip(commands, run_commands(folder, commands.values()), strict=True))


def run_commands(folder: Path, commands: Iterable[Sequence[str]]) -> list[Done]:
    """Run commands one after another, in one new process in `folder`."""
    with tempfile.TemporaryFile() as file:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *HEAVY],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
            input="\n".join(map(json.dumps, commands)),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
        file.seek(0)
        errors = file.read()
    assert done.returncode == 0, errors.decode()
    printed = [json.loads(line) for line in done.stdout.splitlines() if re.match(r"\[\d+, \[", line)]
    ends = [end for _, _, end in printed]
    return [(code, heavy, errors[begin:end].decode()) for (code, heavy, end), begin in zip(printed, [0, *ends], strict=False)]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_without_heavy_imports(imported: dict[str, Done], mistake: str) -> None:
    code, heavy, errors = imported[mistake]
    assert (code, heavy) == (BAD_INPUT, [])
    assert MISTAKES[mistake][1] in errors


def test_every_sweep_is_prepared_without_heavy_imports(imported: dict[str, Done]) -> None:
    prepared, heavy, _ = imported[PREPARED]
    assert prepared >= 10
    assert heavy == []


REPORTING = {"numpy", "scipy", "pandas", "pyarrow", "PIL", "plotly"}


def test_a_finished_run_is_reported_and_resumed_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("start_train.py").write_text(FUNCTION)
    run = ddl.run_sweep("start_train.py:train", ["lr=0.5,0.25", "seeds=1", "metric=val/loss", "wandb.mode=disabled"], executor="inline")
    for code, heavy, _ in run_commands(tmp_path, [["--report", str(run.folder), "--check"], ["--resume", str(run.folder)]]):
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
    assert planned[:2] == (0, ["numpy", "scipy"])
    assert trained[0] == 0
    assert not {"torch", "wandb"} & set(trained[1])
    assert "ray" in trained[1]
