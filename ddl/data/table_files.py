"""Reads a table of the user's own numbers from an .npz file of NumPy or from Parquet."""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddl import units
from ddl.data.archives import MAX_BYTES
from ddl.data.integrity import Damaged

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = 1e100
"""Numbers have to be smaller, so that their squares are finite."""
SHOWN = 10
"""Columns and arrays that an error message names."""


@dataclass(frozen=True, eq=False)
class TableFile:
    """Rows of a table: features, fp64 [n, columns] of finite numbers, and the target, [n] of any type, with its name.

    `held` is True for the rows that the user has set apart for validation, [n]; None if there are none.
    """

    inputs: np.ndarray
    target: np.ndarray
    target_name: str
    held: np.ndarray | None


def read_table_file(path: str, target: str) -> TableFile:
    """The table in the file `path`; `target` names the target's column in a Parquet file.

    Raises ValueError with the row, counted from 0, and the column that cannot be used, and Damaged for a broken file.
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise ValueError(f"{path}: there is no such file in {Path.cwd()}.")
    return _read_npz(path, file) if file.suffix == ".npz" else _read_parquet(path, file, target)


def check_numbers(path: str, name: str, values: np.ndarray) -> None:
    """Raise ValueError with the first of the values [n] that is not a finite number below LARGEST."""
    wrong = np.flatnonzero(~(np.abs(values) < LARGEST))
    if len(wrong):
        many = f" ({len(wrong):,} such rows)" if len(wrong) > 1 else ""
        raise ValueError(
            f"{path}: row {wrong[0]} of {name} is {values[wrong[0]]}{many}. Remove the row, or give it a number below {LARGEST:g}."
        )


def _read_npz(path: str, file: Path) -> TableFile:
    arrays = _npz_arrays(path, file)
    needed = ("x", "y", "x_val", "y_val") if {"x_val", "y_val"} & set(arrays) else ("x", "y")
    for name in needed:
        if name not in arrays:
            raise ValueError(f"{path}: lacks the array {name}. It has {_some(list(arrays)) or 'none'}.")
    parts = [(_numeric(path, x, arrays[x]), _one_dimensional(path, y, arrays[y])) for x, y in zip(needed[::2], needed[1::2], strict=True)]
    for (inputs, target), (x, y) in zip(parts, zip(needed[::2], needed[1::2], strict=True), strict=True):
        if len(inputs) != len(target):
            raise ValueError(f"{path}: {x} has {len(inputs):,} rows and {y} has {len(target):,}. Give them the same number.")
    inputs, target = parts[0]
    if len(parts) == 1:
        return TableFile(inputs, target, "y", None)
    inputs_val, target_val = parts[1]
    if inputs.shape[1] != inputs_val.shape[1]:
        raise ValueError(f"{path}: x has {inputs.shape[1]} columns and x_val has {inputs_val.shape[1]}. Give them the same number.")
    if (target.dtype.kind in "US") != (target_val.dtype.kind in "US"):
        raise ValueError(f"{path}: y has the type {target.dtype} and y_val has {target_val.dtype}. Give them the same type.")
    held = np.arange(len(target) + len(target_val)) >= len(target)
    return TableFile(np.concatenate([inputs, inputs_val]), np.concatenate([target, target_val]), "y", held)


def _npz_arrays(path: str, file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Nothing is unpickled."""
    try:
        with zipfile.ZipFile(file) as packed:
            sizes = {member.filename: member.file_size for member in packed.infolist()}
        _check_size(path, sum(sizes.values()))
        with np.load(file, allow_pickle=False) as loaded:
            return {name: np.asarray(loaded[name]) for name in loaded.files}
    # For a broken file NumPy and zipfile raise any of these.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, MemoryError, RuntimeError, ValueError) as error:
        if isinstance(error, Damaged):
            raise
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: an array contains Python objects, which are not read. Convert it, e.g. with y.astype(str)."
            ) from error
        raise Damaged(f"{path}: not an .npz file, or cut off ({error}). Write it again with numpy.savez.") from error


def _numeric(path: str, name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{path}: {name} has the shape {list(array.shape)}, not [rows, columns].")
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{path}: {name} has the type {array.dtype}, not a type of numbers. Encode its columns as numbers.")
    inputs = array.astype(np.float64)
    for column in range(inputs.shape[1]):
        check_numbers(path, f"{name}[:, {column}]", inputs[:, column])
    return inputs


def _one_dimensional(path: str, name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim != 1:
        raise ValueError(f"{path}: {name} has the shape {list(array.shape)}, not [rows].")
    return array


def _read_parquet(path: str, file: Path, target: str) -> TableFile:
    import pyarrow as pa  # importing it takes a moment
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            schema, metadata = opened.schema_arrow, opened.metadata
            _check_size(path, max(metadata.num_rows * len(schema.names) * 8, _unpacked_bytes(metadata)))
            names = [name for name in schema.names if name not in _indices(schema.metadata or {})]
            _check_columns(path, schema, names, target)
            table = opened.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"{path}: not a Parquet file, or cut off ({error}). Write it again.") from error
    for name in names:
        _check_nulls(path, name, table[name])
    features = [name for name in names if name != target]
    for position, name in enumerate(names):
        if pa.types.is_decimal(table[name].type):
            table = table.set_column(position, name, table[name].cast(pa.float64()))
    inputs = np.stack([table[name].to_numpy().astype(np.float64) for name in features], axis=1)
    for number, name in enumerate(features):
        check_numbers(path, name, inputs[:, number])
    values = table[target]
    text = not _is_number(values.type)
    return TableFile(inputs, np.array(values.to_pylist(), dtype=str) if text else values.to_numpy(), target, None)


def _unpacked_bytes(metadata: Any) -> int:
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


def _indices(metadata: Mapping[bytes, bytes]) -> Sequence[str]:
    """Columns that pandas has stored as the index of the rows, which is no feature."""
    return [name for name in json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", []) if isinstance(name, str)]


def _is_number(kind: "pa.DataType") -> bool:
    from pyarrow import types

    return any(test(kind) for test in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal))


def _check_columns(path: str, schema: "pa.Schema", names: Sequence[str], target: str) -> None:
    from pyarrow import types

    if len(set(names)) < len(names):
        raise ValueError(f"{path}: two columns have one name. Rename one. It has the columns {_some(names)}.")
    if target not in names:
        raise ValueError(f"{path}: has no column {target!r}, which task.target names. It has {_some(names)}.")
    if len(names) == 1:
        raise ValueError(f"{path}: has no column but the target {target}.")
    if wrong := [f"{name} ({schema.field(name).type})" for name in names if name != target and not _is_number(schema.field(name).type)]:
        raise ValueError(f"{path}: not numbers: {_some(wrong)}. Remove these columns, or encode them as numbers.")
    kind = schema.field(target).type
    plain = kind.value_type if types.is_dictionary(kind) else kind
    if not (_is_number(kind) or types.is_string(plain) or types.is_large_string(plain)):
        raise ValueError(f"{path}: the target {target} has the type {kind}, not numbers or text.")


def _check_nulls(path: str, name: str, column: "pa.ChunkedArray") -> None:
    if column.null_count:
        row = np.flatnonzero(column.is_null().to_numpy())[0]
        many = f" ({column.null_count:,} such rows)" if column.null_count > 1 else ""
        raise ValueError(f"{path}: row {row} of {name} is missing{many}. Remove the row, or fill in a value.")


def _check_size(path: str, n_bytes: int) -> None:
    if n_bytes > MAX_BYTES:
        raise Damaged(
            f"{path}: unpacks to {units.size(n_bytes)}, more than the {units.size(MAX_BYTES)} that a table may have. Remove rows or columns."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
