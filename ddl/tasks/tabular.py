"""Regression or classification of the user's own table with a multilayer perceptron."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge
from pydantic import AfterValidator, ValidationInfo
from pydantic.dataclasses import dataclass

from ddl.data.file_endings import TABLE_ENDINGS
from ddl.precision import FP32
from ddl.tasks.fit_task import FitTask, Fitting, count_parameters, split_lengths
from ddl.tasks.task import STRICT, Fraction, Number, Width

if TYPE_CHECKING:
    from ddl.data.tables import Table
    from ddl.devices import Device
    from ddl.learners.learner import StackableLearner


def _is_table(path: str) -> str:
    if not path.endswith(TABLE_ENDINGS):
        raise ValueError(f"{path!r} is not the name of a table. Name a file that ends in {' or '.join(TABLE_ENDINGS)}.")
    return path


def _belongs_to_parquet(target: str, info: ValidationInfo) -> str:
    path = info.data.get("path", "")
    if path.endswith(".parquet") and not target:
        raise ValueError("missing. Name the column of the Parquet file to predict.")
    if path.endswith(".npz") and target:
        raise ValueError(
            f"{target!r} names a column of a Parquet file. In an .npz file the target is the array y: remove "
            "task.target, or empty it with task.target= on the command line."
        )
    return target


@dataclass(frozen=True, config=STRICT)
class Tabular(FitTask):
    """Trains a multilayer perceptron to predict a number or a class from the rows of your own table, an .npz or Parquet file."""

    unit = "rows"
    holds_out: ClassVar[bool] = True
    changeable: ClassVar[tuple[str, ...]] = ("lr", "weight_decay", "dropout")
    stackable: ClassVar[tuple[str, ...]] = ("lr", "weight_decay", "dropout")

    path: Annotated[str, AfterValidator(_is_table)]
    """The table, an .npz or a Parquet file; relative to the folder that the command is started in, or absolute."""
    target: Annotated[str, AfterValidator(_belongs_to_parquet)]
    """Column of a Parquet file to predict; empty for an .npz file, in which the array y is the target."""
    kind: Literal["regression", "classification"]
    """Prediction of a number, trained on the mean squared error, or of a class, trained on the cross-entropy."""
    hidden: list[Width]
    """Units of the hidden layers; an empty list makes the model linear."""
    dropout: Fraction
    """Dropout probability after each hidden layer, 0 to below 1."""
    weight_decay: Annotated[Number, Ge(0)]
    """Weight decay of AdamW."""

    def files(self) -> tuple[str, ...]:
        return (self.path,)

    def can_stack(self) -> bool:
        return True

    def stack_variant(self) -> object:
        return self.dropout > 0  # in a stack, a member without dropout would compute masks too

    def load_data(self, device: Device) -> Table:
        from ddl.data.tables import load_table

        table = load_table(self.path, self.kind, self.target, self.holdout)
        test = table.test and table.test.to(device.torch)
        return replace(table, train=table.train.to(device.torch), val=table.val.to(device.torch), test=test)

    def build(self, data: Table, device: Device) -> Fitting:
        from torch import nn
        from torch.optim import AdamW

        from ddl.learners.optimised_module import OptimisedModule
        from ddl.learners.supervised import Classifier, Regressor
        from ddl.models.mlp import MLP, RestoreUnit, Standardise

        model = MLP(Standardise(data.features.mean, data.features.std), self.hidden, self.dropout, len(data.classes))
        network = OptimisedModule(
            model, lambda parameters: AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True), FP32, device
        )
        learner: StackableLearner
        if data.classes:
            learner = Classifier(network, training=None, evaluation=nn.Identity(), device=device)
        else:
            learner = Regressor(network, RestoreUnit(data.target.mean.item(), data.target.std.item()), device)
        metadata = {
            "data": data.origin.metadata() | split_lengths(data.train, data.val, data.test),
            "parameters": count_parameters([model]),
        } | ({"classes": list(data.classes)} if data.classes else {})
        return Fitting(learner, data.train, data.val, metadata, data.test)
