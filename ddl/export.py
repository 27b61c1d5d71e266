"""Exports a trained trial as files that work without ddl: its weights, its model with preprocessing, and a model card.

`model.safetensors` has every parameter and buffer by name. `model.pt2` is the program for batches of any size (`torch.export`;
read it with `torch.export.load(path).module()`). `card.json` describes inputs, outputs and the trial.
"""

import copy
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ddl import checkpoints, provenance
from ddl.devices import Device
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from ddl.models.dropout import Dropout
from ddl.precision import Precision
from ddl.program import program
from ddl.progress import Predictor
from ddl.redaction import Redactor
from ddl.tasks.loading import RecordedTasks
from ddl.tasks.task import Task, precision_of, with_precision
from ddl.trial_errors import TRIAL_ERRORS, error_line

EXPORTABLE = ("finished", "stopped")
AGREEMENT = 1e-5
"""Largest relative deviation (norm of the difference over the norm) of exported outputs from the trained model's, in fp32."""
BATCHES = (1, 3)
"""Batch sizes at which the deviation is checked. Neither is the one that the program is traced with."""


def export(reader: LedgerReader, trial_id: str, trust: bool = False, allow_changed_code: bool = False) -> Path:
    """Export a trial of the reader's run from its newest checkpoint into trials/`trial_id`/export of the run's folder, and return that folder.

    All files are read back and compared with the trained model; if they differ, nothing is kept. The model of a trial that a
    scheduler stopped has trained one step more than its checkpoint; the card has the step. `trust` as in `RecordedTasks`. Raises
    ValueError, without `allow_changed_code`, if the source of the task has changed, and for an unknown trial, one that failed or diverged or
    has no checkpoint or none of its last step, and one whose task has no model for inference or one that cannot be exported.
    """
    row = _exportable_row(reader, trial_id)
    folder = reader.folder / "trials" / trial_id
    about = reader.run("task_class", "plan.precision", "sweep.name", "sweep.task")
    tasks = RecordedTasks(about, reader.path, trust)
    if not allow_changed_code:
        tasks.check_code(str(reader.folder), "The exported model would not be the one that was trained. Restore the code,")
    metrics = reader.metrics()
    final_metrics = metrics[metrics.trial_id == row.trial_id].drop_duplicates("name", keep="last")
    step, predictor = _trained_model(tasks, about, row, folder, max(final_metrics.step, default=0))
    final = folder / "export"
    partial = folder / "export.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        files = _write_model(predictor, partial)
        card = _model_card(about, row, step, final_metrics, predictor, files)
        (partial / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _exportable_row(reader: LedgerReader, trial_id: str) -> TrialRow:
    run, row = reader.folder, reader.trial(trial_id)
    if row.status not in EXPORTABLE:
        raise ValueError(f"{run}: trial {trial_id} is {row.status}, so there is no trained model. Finish it with --resume {run}.")
    return row


def _trained_model(tasks: RecordedTasks, about: Mapping[str, Any], row: TrialRow, folder: Path, measured: int) -> tuple[int, Predictor]:
    """(step, model) of the newest checkpoint, on the CPU. `measured` is the step of the trial's last measurement."""
    task = _uncompiled(with_precision(tasks.build(row.hyperparameters(about)), about["plan"]["precision"]))
    checkpoint = checkpoints.newest(folder / "checkpoints", row.trial_id)
    if checkpoint is None and "measurements" in about:
        raise ValueError(f"{folder}: the function {about['sweep']['name']} yielded no state, so there is no trained model.")
    if checkpoint is None:
        raise ValueError(
            f"{folder / 'checkpoints'}: holds no good checkpoint. Copy the run's whole folder, or "
            f"train the trial again: {program()} --resume {shlex.quote(str(folder.parent.parent))} --again {row.trial_id}"
        )
    if row.status == "finished" and checkpoint[0] < measured and "measurements" not in about:  # a function may measure after its last state
        place = (row.metadata or {}).get("only_here") or "copy the run's whole folder"
        raise ValueError(
            f"{folder / 'checkpoints'}: the newest good checkpoint is of step {checkpoint[0]}, not of the last one, {measured}: {place}."
        )
    try:
        progress = next(task.run(Device(torch.device("cpu")), checkpoint[1]["task"]), None)
    except TRIAL_ERRORS as error:
        raise ValueError(
            f"{folder / 'checkpoints'}: the newest checkpoint does not fit the trial's task ({error_line(error)}). Copy the run's folder again."
        ) from error
    predictor = progress.predictor() if progress else None
    if progress is None or predictor is None:
        raise ValueError(f"{folder}: {about['sweep']['task']} has no model for inference, so there is nothing to export.")
    return progress.step, predictor


def _uncompiled(task: Task) -> Task:
    """The task without compilation: a stopped trial takes one more step, for which it would take half a minute."""
    name = precision_of(task)
    if not name:
        return task
    precision = replace(Precision.parse(name), compiled=False, cuda_graphs=False)
    return replace(task, precision=str(precision))  # type: ignore[call-arg]


def _write_model(predictor: Predictor, folder: Path) -> list[Path]:
    """Write the weights and the program into the new `folder` of a trial, read them back and compare.

    Raises ValueError if they differ from the model, or if torch cannot export it.
    """
    try:
        return _write_checked(predictor, folder)
    except OSError:
        raise
    except TRIAL_ERRORS as error:  # of torch, about the user's model
        raise ValueError(f"{folder.parent}: its model cannot be exported ({error_line(error)}).") from error


def _write_checked(predictor: Predictor, folder: Path) -> list[Path]:
    # Exported in the default memory layout, regardless of the one used for training.
    module = _without_dropout(copy.deepcopy(predictor.module)).to(memory_format=torch.contiguous_format).eval()
    weights, program = folder / "model.safetensors", folder / "model.pt2"
    tensors = {name: tensor.detach() for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    # Not `save_file`, which makes the file readable by its owner only, whatever the umask.
    weights.write_bytes(save({name: tensor.contiguous().clone() for name, tensor in tensors.items()}))
    with torch.no_grad():
        exported = torch.export.export(module, (_inputs(predictor, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, program)

    restored = copy.deepcopy(module)
    for tensor in [*restored.parameters(), *restored.buffers()]:
        tensor.detach().zero_()
    read = load_file(weights)
    for name, tensor in [*restored.named_parameters(), *restored.named_buffers()]:
        tensor.detach().copy_(read[name])
    for path, model in ((weights, restored), (program, torch.export.load(program).module())):
        _check_agreement(path, predictor, module, model)
    return [weights, program]


def _without_dropout(module: nn.Module) -> nn.Module:
    """The module without ddl's dropout, which does nothing in evaluation and has buffers for its random numbers."""
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, Dropout):
                setattr(parent, name, nn.Identity())
    return module


@torch.no_grad()
def _check_agreement(path: Path, predictor: Predictor, module: nn.Module, exported: Callable[[Tensor], Tensor]) -> None:
    for batch in BATCHES:
        inputs = _inputs(predictor, batch)
        expected = module(inputs)
        deviation = float((exported(inputs) - expected).norm() / expected.norm().clamp_min(1e-12))
        if not deviation <= AGREEMENT:
            raise ValueError(
                f"{path.name} deviates by {deviation:.2g} from the trained model at batch size {batch}; in eval mode a model must not draw random "
                "numbers, as functional.dropout does without training=self.training"
            )


def _inputs(predictor: Predictor, n: int) -> Tensor:
    """`n` different inputs: the example, rolled along its last axis."""
    return torch.cat([torch.roll(predictor.example, shift, dims=-1) for shift in range(n)])


def _model_card(
    about: Mapping[str, Any], row: TrialRow, step: int, metrics: pd.DataFrame, predictor: Predictor, files: list[Path]
) -> dict[str, Any]:
    metadata = row.metadata or {}
    with torch.no_grad():
        outputs = predictor.module(predictor.example)
    return {
        "sweep": about["sweep"]["name"],
        "task": about["sweep"]["task"],
        "trial_id": row.trial_id,
        "configuration": row.configuration,
        "status": row.status,
        "step": step,
        "hyperparameters": Redactor().value(row.task),
        "data": metadata.get("data"),
        "metrics": dict(zip(metrics.name, metrics.value, strict=True)),
        "input": _tensor_spec(predictor.example),
        "output": _tensor_spec(outputs),
        "classes": metadata.get("classes"),
        "parameters": sum(parameter.numel() for parameter in predictor.module.parameters()),
        "versions": provenance.versions(),
        "commit": about.get("commit"),
        "files": {path.name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files},
    }


def _tensor_spec(tensor: Tensor) -> dict[str, Any]:
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": ["batch", *tensor.shape[1:]]}
