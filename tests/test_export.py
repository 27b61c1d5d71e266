"""Export: what is written can be used without ddl and gives the trained model's outputs."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from pydantic.dataclasses import dataclass
from safetensors.torch import load_file
from torch import nn

from ddl import checkpoints as stored
from ddl import export, launch, yamlfile
from ddl.data import sources
from ddl.devices import Device
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.progress import Predictor, Progress
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.worker import run_trial
from ddl.tasks.classification import Classification
from ddl.tasks.task import STRICT, Task, with_precision

from .ledgers import ReportingLedger

CPU = Device(torch.device("cpu"))
PRECISION = "bf16 channels_last"
TINY = {
    "content": "sample",
    "train_limit": 32,
    "val_limit": 16,
    "widths": [4],
    "convolutions": 1,
    "dense": 8,
    "epochs": 2,
    "batch_size": 16,
}


def classification(**changed) -> Classification:
    values = yaml.safe_load((yamlfile.FOLDER / "task" / "classification.yaml").read_text())
    del values["class"]
    return Classification(**values | TINY | {"seed": 5} | changed)


def trained(folder: Path, task: Task, status: str = "finished") -> Path:
    """A run folder with the one trial `one`, trained."""
    folder.mkdir()
    cls = type(task)
    about = {
        "sweep": {"name": "small", "task": "classification", "metric": {"name": "val/accuracy", "mode": "max"}},
        "task_class": f"{cls.__module__}.{cls.__qualname__}",
        "plan": {"precision": PRECISION},
    }
    row = TrialRow("one", 0, "only", {}, dataclasses.asdict(task), task.seed)
    with ReportingLedger.create(folder, about, [row]) as ledger:
        for report in run_trial(Assignment("one", with_precision(task, PRECISION), 1, 1, 0, folder / "trials" / "one", 1e9), CPU):
            if report.kind == "measured":
                ledger.measured("one", report.step, report.epoch, report.elapsed_s, report.metrics, report.metadata)
        ledger.ended("one", status)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return trained(tmp_path_factory.mktemp("export") / "run", classification(precision="auto"))


@pytest.fixture(scope="module")
def folder(run) -> Path:
    return export.export(LedgerReader(run), "one")


USE = """
import json, sys, torch
images = torch.load("images.pt", weights_only=True)
model = torch.export.load(sys.argv[1]).module()
assert not any(name.partition(".")[0] == "ddl" for name in sys.modules)
torch.save(model(images), "outputs.pt")
"""


def test_what_is_exported_works_in_a_program_without_ddl_on_images_as_they_are_stored(run, folder, tmp_path):
    images = sources.load_data_set("cifar10", "sample").val.inputs[:7].clone()
    torch.save(images, tmp_path / "images.pt")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-P", "-c", USE, folder / "model.pt2"], cwd=tmp_path, env=environment, check=True)
    *_, last = classification(precision=PRECISION).run(CPU)
    with torch.no_grad():
        expected = last.predictor().module(images)
    torch.testing.assert_close(torch.load(tmp_path / "outputs.pt", weights_only=True), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (7, 10)


def test_the_weights_are_the_trained_ones_with_what_the_preprocessing_needs(folder):
    *_, last = classification(precision=PRECISION).run(CPU)
    module = last.predictor().module
    weights = load_file(folder / "model.safetensors")
    named = {name for name, _ in [*module.named_parameters(), *module.named_buffers()]}
    assert weights.keys() == {name for name in named if not name.endswith((".key", ".keep"))}, "without dropout"
    for name, value in module.named_parameters():
        assert torch.equal(weights[name], value)
    assert weights["preprocess.shift"].numel() == 3


def test_the_card_says_what_it_is(folder):
    card = json.loads((folder / "card.json").read_text())
    assert card["trial_id"] == "one"
    assert card["step"] == 4
    assert card["hyperparameters"]["widths"] == [4]
    assert card["data"]["source"] == "bundled sample"
    assert card["metrics"].keys() >= {"val/accuracy", "train/loss"}
    assert card["input"] == {"dtype": "uint8", "shape": ["batch", 3, 32, 32]}
    assert card["output"] == {"dtype": "float32", "shape": ["batch", 10]}
    assert card["classes"][0] == "airplane"
    for name, checksum in card["files"].items():
        assert checksum == "sha256:" + hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert {path.name for path in folder.iterdir()} == {*card["files"], "card.json"}


def test_an_earlier_model_is_not_exported_as_the_last_one(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    checkpoints = tmp_path / "run" / "trials" / "one" / "checkpoints"
    (only,) = checkpoints.iterdir()
    step, state = stored.newest(checkpoints, "one")
    assert step == 4
    shutil.rmtree(only)
    stored.store(checkpoints, "one", 2, state)
    with pytest.raises(ValueError, match=r"the newest good checkpoint is of step 2, not of the last one, 4: copy the run's whole folder\."):
        export.export(LedgerReader(tmp_path / "run"), "one")


def test_what_differs_from_the_model_is_not_left(run, folder, monkeypatch):
    before = (folder / "card.json").read_bytes()
    real = export.load_file
    monkeypatch.setattr(export, "load_file", lambda path: {name: value + 1 for name, value in real(path).items()})
    with pytest.raises(
        ValueError, match=r"cannot be exported \(ValueError: model\.safetensors deviates by .* from the trained model at batch size 1"
    ):
        export.export(LedgerReader(run), "one")
    assert (folder / "card.json").read_bytes() == before
    assert not (run / "trials" / "one" / "export.partial").exists()


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_model_that_torch_cannot_export_is_named(run, monkeypatch):
    monkeypatch.setattr(export, "_trained_model", lambda *_: (4, Predictor(Branching(), torch.ones(1, 3))))
    with pytest.raises(ValueError, match=r"trials/one: its model cannot be exported \(\w+: "):
        export.export(LedgerReader(run), "one")


def test_the_command_prints_where_it_is(run, capsys):
    assert launch.main(["--export", str(run), "one"]) == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(run / "trials" / "one" / "export")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUN", "onne"], "has no trial 'onne'. Did you mean one?"),
        (["RUN", "../one"], "has no trial '../one'"),
        (["RUN/trials", "one"], "RUN/trials"),
    ],
)
def test_what_is_not_there_is_bad_input(run, capsys, arguments, said):
    given = [argument.replace("RUN", str(run)) for argument in arguments]
    assert launch.main(["--export", *given]) == launch.BAD_INPUT
    assert said.replace("RUN", str(run)) in capsys.readouterr().err


def test_only_a_trial_with_a_good_end_is_exported(tmp_path):
    run = trained(tmp_path / "run", classification(epochs=1, precision="fp32"), "diverged")
    with pytest.raises(ValueError, match="trial one is diverged, so there is no trained model"):
        export.export(LedgerReader(run), "one")


def test_without_a_checkpoint_there_is_nothing_to_export(tmp_path):
    run = trained(tmp_path / "run", classification(epochs=1, precision="fp32"))
    for path in (run / "trials" / "one" / "checkpoints").rglob("state.safetensors"):
        path.unlink()
    with pytest.warns(UserWarning, match="damaged checkpoint"), pytest.raises(ValueError, match="holds no good checkpoint"):
        export.export(LedgerReader(run), "one")


@dataclass(frozen=True, config=STRICT)
class Mute(Task):
    """Has no model."""

    def run(self, device, resume=None) -> Iterator[Progress]:
        yield Progress(1, 1, dict)


def test_a_task_without_a_model_says_so(tmp_path):
    run = trained(tmp_path / "run", Mute(seed=0))
    with pytest.raises(ValueError, match="nothing to export"):
        export.export(LedgerReader(run), "one", trust=True)
