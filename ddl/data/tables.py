"""Tables of the user's own numbers: rows of features, and a number or a class to predict."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ddl.data.splits import Origin, Split, fingerprint, held_out, holdout_mask, to_tensors
from ddl.data.table_files import TableFile, check_numbers, read_table_file

CLASSES_SHOWN = 10
"""Classes that a report names."""
CONSTANT = 1e-13
"""A standard deviation of at most this part of the mean is a rounding error: the numbers are equal."""


@dataclass(frozen=True, eq=False)
class ColumnScale:
    """Mean and standard deviation of columns over the training rows, fp64 [columns]. Equal numbers have the deviation 1."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True, eq=False)
class Table:
    """Rows to train and validate on. Inputs are the features as they are in the file, fp64 [n, columns].

    Targets are labels, int64 [n], of `classes`. In a regression, `classes` is empty and targets are fp32 [n], standardised by `target`.
    """

    origin: Origin
    train: Split
    val: Split
    classes: tuple[str, ...]
    features: ColumnScale
    target: ColumnScale
    test: Split | None = None


def load_table(path: str, kind: Literal["regression", "classification"], target: str, holdout: float = 0.0) -> Table:
    """The table in the file `path`, an .npz or Parquet file, with `target` as in `read_table_file`.

    Without rows that the user has set apart, the validation part is that of `held_out`, in a classification of each class. With `holdout`,
    that part is the test part, and the fraction `holdout` of the training rows (`holdout_mask`) is the validation part. Raises ValueError
    with what cannot be used.
    """
    file = read_table_file(path, target)
    if len(file.target) < 2:
        raise ValueError(f"{path}: {len(file.target)} rows. At least two are needed: some are used for validation.")
    values, classes = _labels(path, file) if kind == "classification" else (_numbers(path, file), ())
    held = file.held
    if held is None:
        strata = values.tolist() if classes else [0] * len(values)
        held = np.array(held_out([str(row) for row in range(len(values))], strata))
    _check_parts(path, values, classes, held)
    train_rows, *others = np.flatnonzero(~held), np.flatnonzero(held)
    if holdout:
        chosen = np.array(holdout_mask(values[train_rows].tolist() if classes else [0] * len(train_rows), holdout))
        _check_parts(path, values[train_rows], classes, chosen)
        train_rows, others = train_rows[~chosen], [train_rows[chosen], *others]
    features, scale = _scale(file.inputs[train_rows]), _scale(values[train_rows, None].astype(np.float64))
    inputs, targets = torch.from_numpy(file.inputs), torch.from_numpy(values)
    if not classes:
        targets = ((targets - scale.mean) / scale.std).float()
    train, val, *test = (Split(inputs[rows], targets[rows]) for rows in map(torch.from_numpy, (train_rows, *others)))
    source = f"table with {inputs.shape[1]} features"
    if classes:
        more = f" and {len(classes) - CLASSES_SHOWN} more" if len(classes) > CLASSES_SHOWN else ""
        source += f" and {len(classes)} classes: {', '.join(classes[:CLASSES_SHOWN])}{more}"
    origin = Origin(Path(path).name, source, complete=True, fallback_for="", sha256=fingerprint(to_tensors(train, val)))
    return Table(origin, train, val, classes, features, scale, test[0] if test else None)


def _labels(path: str, file: TableFile) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels, int64 [n], and the names of their classes, in the order of the values in the file."""
    values = file.target
    if values.dtype.kind not in "iufbUS":
        raise ValueError(f"{path}: {file.target_name} has the type {values.dtype}, not integers or text.")
    if values.dtype.kind == "f":
        check_numbers(path, file.target_name, values)
        fractions = np.flatnonzero(values != np.round(values))
        if len(fractions):
            row = fractions[0]
            raise ValueError(
                f"{path}: row {row} of {file.target_name} is {values[row]}, not a class. Use integers or text, or task.kind=regression."
            )
        values = values.astype(np.int64)
    names, labels = np.unique(values.astype(str) if values.dtype.kind == "S" else values, return_inverse=True)
    if len(names) == 1:
        raise ValueError(f"{path}: {file.target_name} has only one class, {names[0]}.")
    return labels.astype(np.int64), tuple(map(str, names))


def _numbers(path: str, file: TableFile) -> np.ndarray:
    """The targets of a regression, fp64 [n]."""
    if file.target.dtype.kind not in "iufb":
        raise ValueError(
            f"{path}: {file.target_name} has the type {file.target.dtype}, not numbers. Use task.kind=classification for classes."
        )
    values = file.target.astype(np.float64)
    check_numbers(path, file.target_name, values)
    return values


def _check_parts(path: str, values: np.ndarray, classes: tuple[str, ...], held: np.ndarray) -> None:
    """Raise ValueError if a class, or different numbers, are missing in the training or the validation part."""
    for part, rows in (("training", ~held), ("validation", held)):
        distinct = np.unique(values[rows])
        if not len(distinct):
            raise ValueError(f"{path}: has no {part} rows.")
        if not classes and len(distinct) == 1:
            raise ValueError(
                f"{path}: all {rows.sum():,} {part} rows have the target {distinct[0]}. A regression needs different ones in each part."
            )
    if classes and (unknown := sorted(set(values[held].tolist()) - set(values[~held].tolist()))):
        raise ValueError(f"{path}: the class {classes[unknown[0]]} is in the validation rows only. Add training rows of it.")


def _scale(rows: np.ndarray) -> ColumnScale:
    """The scale of fp64 [n, columns]."""
    mean, std = torch.from_numpy(rows.mean(axis=0)), torch.from_numpy(rows.std(axis=0))
    return ColumnScale(mean, torch.where(std > CONSTANT * mean.abs(), std, 1.0))
