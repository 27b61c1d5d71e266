"""A trained trial as files that work without ddl: its weights, the whole model with its preprocessing, and what it is.

`model.safetensors` holds every parameter and buffer by name, `model.pt2` the program (`torch.export`; read it with
`torch.export.load(path).module()`), for batches of any size; `card.json` says what goes in, what comes out and how it came about.
"""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddl import checkpoints, provenance
from ddl.devices import Device
from ddl.hints import did_you_mean_or_there_are
from ddl.ledger import LedgerReader, TrialRow
from ddl.progress import Predictor
from ddl.sweeps.worker import with_precision
from ddl.tasks.loading import load_task_class

EXPORTABLE = ("finished", "stopped")
AGREEMENT = 1e-5
"""How far (the norm of the difference over the norm) outputs of what was written may lie from the trained model's, in fp32."""
BATCHES = (1, 3)
"""Sizes at which that is checked; neither is the one that the program is traced with."""


def export(run: Path, trial_id: str) -> Path:
    """Export a trial from its newest checkpoint into `run`/trials/`trial_id`/export, and return that folder.

    Everything written is read back and gives the trained model's outputs, or nothing is left. The model of a trial that a
    scheduler stopped has trained a step more than its checkpoint; the card has the step. Raises ValueError for an unknown trial, one that
    has no good end or no checkpoint, and one whose task has no model to be used by itself.
    """
    reader = LedgerReader(run)
    row = _row(reader, run, trial_id)
    folder = Path(run) / "trials" / trial_id
    step, predictor = _trained(reader.run(), row, folder)
    final = folder / "export"
    partial = folder / "export.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        files = _write(predictor, partial)
        card = _card(reader, row, step, predictor, files)
        (partial / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _row(reader: LedgerReader, run: Path, trial_id: str) -> TrialRow:
    rows = {row.trial_id: row for row in reader.trials()}
    if trial_id not in rows:
        raise ValueError(f"{run}: has no trial {trial_id!r}.{did_you_mean_or_there_are(trial_id, rows)}")
    row = rows[trial_id]
    if row.status not in EXPORTABLE:
        raise ValueError(f"{run}: trial {trial_id} is {row.status}, so there is no trained model. Finish it with --resume {run}.")
    return row


def _trained(about: Mapping[str, Any], row: TrialRow, folder: Path) -> tuple[int, Predictor]:
    """(step, the model) of the newest checkpoint, on the CPU."""
    found = checkpoints.newest(folder / "checkpoints", row.trial_id)
    if found is None:
        raise ValueError(f"{folder / 'checkpoints'}: holds no good checkpoint. Copy the run's whole folder, or train the trial again.")
    cls = load_task_class(about["task_class"])
    changed = (row.metadata or {}).get("changed", {})  # by a search, while it trained
    task = with_precision(cls(**{**row.task, **changed}), about["plan"]["precision"])
    progress = next(task.run(Device(torch.device("cpu")), found[1]["task"]), None)
    predictor = progress.predictor() if progress else None
    if progress is None or predictor is None:
        raise ValueError(f"{folder}: {about['sweep']['task']} has no model that predicts by itself, so there is nothing to export.")
    return progress.step, predictor


def _write(predictor: Predictor, folder: Path) -> list[Path]:
    """The weights and the program, read back and compared. Raises AssertionError where they differ from the model."""
    # Whatever layout it was trained in, it is exported in the plain one.
    module = copy.deepcopy(predictor.module).to(memory_format=torch.contiguous_format).eval()
    weights, program = folder / "model.safetensors", folder / "model.pt2"
    tensors = {name: tensor.detach() for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, weights)
    with torch.no_grad():
        exported = torch.export.export(module, (_rows(predictor, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, program)
    weights.chmod(0o644)  # safetensors lets only its owner read it

    emptied = copy.deepcopy(module)
    for tensor in [*emptied.parameters(), *emptied.buffers()]:
        tensor.detach().zero_()
    read = load_file(weights)
    for name, tensor in [*emptied.named_parameters(), *emptied.named_buffers()]:
        tensor.detach().copy_(read[name])
    for written, run in ((weights, emptied), (program, torch.export.load(program).module())):
        _compare(written, predictor, module, run)
    return [weights, program]


@torch.no_grad()
def _compare(written: Path, predictor: Predictor, module: nn.Module, run: Callable[[Tensor], Tensor]) -> None:
    for batch in BATCHES:
        inputs = _rows(predictor, batch)
        expected = module(inputs)
        deviation = float((run(inputs) - expected).norm() / expected.norm().clamp_min(1e-12))
        assert deviation <= AGREEMENT, f"{written.name} lies {deviation:.2g} from the trained model at batch {batch}"


def _rows(predictor: Predictor, n: int) -> Tensor:
    """`n` inputs, no two alike: the example, shifted along its last axis."""
    return torch.cat([torch.roll(predictor.example, shift, dims=-1) for shift in range(n)])


def _card(reader: LedgerReader, row: TrialRow, step: int, predictor: Predictor, files: list[Path]) -> dict[str, Any]:
    about, measured = reader.run(), reader.metrics()
    mine = measured[measured.trial_id == row.trial_id].drop_duplicates("name", keep="last")
    with torch.no_grad():
        outputs = predictor.module(predictor.example)
    return {
        "sweep": about["sweep"]["name"],
        "task": about["sweep"]["task"],
        "trial_id": row.trial_id,
        "configuration": row.configuration,
        "status": row.status,
        "step": step,
        "hyperparameters": dict(row.task),
        "data": (row.metadata or {}).get("data"),
        "metrics": dict(zip(mine.name, mine.value, strict=True)),
        "input": _form(predictor.example),
        "output": _form(outputs),
        "classes": (row.metadata or {}).get("classes"),
        "parameters": sum(parameter.numel() for parameter in predictor.module.parameters()),
        "versions": provenance.versions(),
        "commit": about.get("commit"),
        "files": {path.name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files},
    }


def _form(tensor: Tensor) -> dict[str, Any]:
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": ["batch", *tensor.shape[1:]]}
