"""Tables of the user's own numbers: files, their mistakes, the split and the scale."""

import decimal
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ddl.data import table_files
from ddl.data.integrity import Damaged
from ddl.data.tables import Table, load_table

ROWS = 40


@pytest.fixture(autouse=True)
def in_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def arrays(**changed: object) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    given = {"x": rng.normal([5, -100], [2, 30], (ROWS, 2)), "y": rng.normal(50, 10, ROWS)}
    return {name: value for name, value in (given | changed).items() if value is not None}


def npz(**changed: object) -> str:
    np.savez("table.npz", **arrays(**changed))
    return "table.npz"


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {"age": np.arange(ROWS) % 7, "height": np.linspace(1, 2, ROWS), "price": np.arange(ROWS) * 1.5, "kind": ["a", "b"] * 20}
    )


def parquet(change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table.drop(columns="kind")) -> str:
    change(frame()).to_parquet("table.parquet")
    return "table.parquet"


def regression(path: str, target: str = "") -> Table:
    return load_table(path, "regression", target)


def test_a_table_is_split_and_scaled_by_its_training_rows():
    given = arrays()
    table = regression(npz())
    assert (len(table.train), len(table.val)) == (32, 8)
    assert table.train.inputs.dtype == torch.float64
    assert sorted([*table.train.inputs[:, 0].tolist(), *table.val.inputs[:, 0].tolist()]) == sorted(given["x"][:, 0].tolist())
    assert table.features.mean.tolist() == pytest.approx(table.train.inputs.mean(0).tolist())
    assert table.features.std.tolist() == pytest.approx(table.train.inputs.std(0, correction=0).tolist())
    assert table.train.targets.dtype == torch.float32
    assert table.train.targets.mean().item() == pytest.approx(0, abs=1e-6)
    assert table.train.targets.std(correction=0).item() == pytest.approx(1)
    row = given["x"][:, 0].tolist().index(table.val.inputs[3, 0].item())
    assert table.val.targets[3].item() * table.target.std.item() + table.target.mean.item() == pytest.approx(given["y"][row], rel=1e-5)


def test_no_validation_row_enters_the_scale():
    given = arrays()
    validation = {"x_val": np.full((6, 2), 1e9), "y_val": np.linspace(1e9, 2e9, 6)}
    table = regression(npz(**validation))
    assert (len(table.train), len(table.val)) == (ROWS, 6)
    assert table.features.mean.tolist() == pytest.approx(given["x"].mean(0).tolist())
    assert table.features.std.tolist() == pytest.approx(given["x"].std(0).tolist())
    assert table.target.mean.tolist() == pytest.approx([given["y"].mean()])
    assert table.target.std.tolist() == pytest.approx([given["y"].std()])
    held = regression(npz())
    rows = [given["x"][:, 0].tolist().index(value) for value in held.val.inputs[:, 0].tolist()]
    given["x"][rows], given["y"][rows] = 1e9 * given["x"][rows], 1e9 * given["y"][rows]
    changed = regression(npz(**given))
    assert torch.equal(changed.val.inputs, 1e9 * held.val.inputs)
    assert torch.equal(changed.features.mean, held.features.mean)
    assert torch.equal(changed.features.std, held.features.std)
    assert torch.equal(changed.target.std, held.target.std)


def test_constant_columns_and_columns_with_a_large_mean_keep_their_precision():
    times = 1.7e9 + np.arange(ROWS)
    table = regression(npz(x=np.stack([np.full(ROWS, 0.1), times], axis=1)))
    assert table.features.std[0].item() == 1
    assert table.features.std[1].item() == pytest.approx(11.5, abs=1.5)


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (np.array([3, 1] * 20), ("1", "3")),
        (np.array([10.0, 9.0] * 20), ("9", "10")),
        (np.array([True, False] * 20), ("False", "True")),
        (np.array(["dog", "cat"] * 20), ("cat", "dog")),
        (np.array([b"dog", b"cat"] * 20), ("cat", "dog")),
    ],
)
def test_classes_are_integers_truth_values_or_text(target, classes):
    table = load_table(npz(y=target), "classification", "")
    assert table.classes == classes
    assert table.train.targets.dtype == torch.int64
    assert table.train.targets.bincount().tolist() == [16, 16]
    assert table.val.targets.bincount().tolist() == [4, 4]
    assert table.origin.source == f"table with 2 features and 2 classes: {', '.join(classes)}"


def test_parquet_has_named_columns_and_a_target_and_no_index():
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table["flag"], table["money"] = [True, False] * 20, [decimal.Decimal(f"{number}.25") for number in range(ROWS)]
        return table[table.age < 6].drop(columns="kind")  # pandas stores this index as a column

    table = regression(parquet(change), "price")
    assert table.train.inputs.shape[1] == 4
    assert set(table.train.inputs[:, 2].tolist()) == {0.0, 1.0}
    assert set((4 * table.val.inputs[:, 3] % 4).tolist()) == {1.0}
    assert regression(parquet(change), "money").train.targets.dtype == torch.float32
    for kind in ("object", "category"):
        table = load_table(parquet(lambda table, kind=kind: table.astype({"kind": kind})), "classification", "kind")
        assert table.classes == ("a", "b")


def test_equal_numbers_have_an_equal_sha256_in_both_formats():
    given = arrays()
    columns = {"a": given["x"][:, 0], "b": given["x"][:, 1], "y": given["y"]}
    pd.DataFrame(columns).to_parquet("table.parquet")
    assert regression("table.parquet", "y").origin.sha256 == regression(npz()).origin.sha256


def wrong(name: str, value: object, row: int = 3) -> np.ndarray:
    array = arrays()[name]
    array[(row, 1) if array.ndim == 2 else row] = value
    return array


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x": wrong("x", np.nan)}, r"table\.npz: row 3 of x\[:, 1\] is nan\. Remove the row"),
        ({"x": wrong("x", -np.inf)}, r"row 3 of x\[:, 1\] is -inf"),
        ({"x": wrong("x", 1e200)}, r"row 3 of x\[:, 1\] is 1e\+200"),
        ({"y": wrong("y", np.nan)}, r"row 3 of y is nan\."),
        ({"x": None}, r"lacks the array x\. It has y\."),
        ({"x_val": np.ones((3, 2))}, "lacks the array y_val"),
        ({"x": np.ones(ROWS)}, r"x has the shape \[40\], not \[rows, columns\]"),
        ({"y": np.ones((ROWS, 1))}, r"y has the shape \[40, 1\], not \[rows\]"),
        ({"y": np.ones(ROWS - 1)}, "x has 40 rows and y has 39"),
        ({"x_val": np.ones((3, 3)), "y_val": np.arange(3.0)}, "x has 2 columns and x_val has 3"),
        ({"x_val": np.full((3, 2), np.nan), "y_val": np.arange(3.0)}, r"row 0 of x_val\[:, 0\] is nan \(3 such rows\)"),
        ({"x_val": np.ones((0, 2)), "y_val": np.ones(0)}, "has no validation rows"),
        ({"x_val": np.ones((3, 2)), "y_val": np.array(["a", "b", "c"])}, "y has the type float64 and y_val has <U1"),
        ({"x": np.full((ROWS, 2), "1")}, "x has the type <U1, not a type of numbers"),
        ({"x": np.full((ROWS, 2), np.datetime64("2020-01-01"))}, "x has the type datetime64"),
        ({"y": np.array(["a", "b"] * 20)}, r"y has the type <U1, not numbers\. Use task.kind=classification"),
        ({"y": np.array([object()] * ROWS)}, "an array contains Python objects, which are not read"),
        ({"x": np.ones((1, 2)), "y": np.ones(1)}, "1 rows. At least two"),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, "0 rows. At least two"),
        ({"x": np.ones((2, 2)), "y": np.arange(2.0)}, r"all 1 validation rows have the target \d\.0|all 1 training rows"),
        ({"y": np.ones(ROWS)}, r"all 32 training rows have the target 1\.0"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        regression(npz(**changed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"y": np.array([*[0, 1] * 19, 0, 2])}, "the class 2 is in the validation rows only. Add training rows"),
        ({"x_val": np.ones((2, 2)), "y": np.array([0, 1] * 20), "y_val": np.array([0, 7])}, "the class 7 is in the validation rows only"),
        ({"y": np.zeros(ROWS, dtype=int)}, "y has only one class, 0"),
        ({}, r"row 0 of y is .*, not a class\. Use integers or text, or task.kind=regression"),
        ({"y": np.array([*[0.0, 1.0] * 19, 0, np.nan])}, "row 39 of y is nan"),
        ({"y": np.full(ROWS, np.datetime64("2020-01-01"))}, "y has the type datetime64.*, not integers or text"),
    ],
)
def test_classes_that_cannot_be_learnt_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        load_table(npz(**changed), "classification", "")


@pytest.mark.parametrize(
    ("change", "target", "said"),
    [
        (lambda table: table, "price", r"table\.parquet: not numbers: kind \((large_)?string\)\. Remove these columns"),
        (lambda table: table.assign(kind=pd.Timestamp("2020-01-01")), "price", r"not numbers: kind \(timestamp"),
        (lambda table: table.drop(columns="kind"), "cost", "has no column 'cost', which task.target names. It has age, height, price"),
        (lambda table: table[["price"]], "price", "has no column but the target price"),
        (
            lambda table: table.drop(columns="kind").assign(age=table.age.where(table.age > 0)),
            "price",
            r"row 0 of age is .*\(6 such rows\)",
        ),
        (lambda table: table.assign(kind=[None, *"ab" * 19, "b"]), "kind", r"row 0 of kind is missing\. Remove the row"),
        (lambda table: table.assign(kind=pd.Timestamp("2020-01-01")), "kind", "the target kind has the type timestamp"),
    ],
)
def test_a_parquet_file_that_cannot_be_used_is_refused(change, target, said):
    with pytest.raises(ValueError, match=said):
        load_table(parquet(change), "classification" if target == "kind" else "regression", target)


@pytest.mark.parametrize("make", [npz, parquet])
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[: len(content) // 2], lambda content: b"text" * 100])
def test_a_broken_file_is_named(make, damage):
    path = Path(make())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Damaged, match=rf"{path}: not an? (\.npz|Parquet) file, or cut off"):
        regression(str(path), "price")


def test_a_missing_file_is_named_with_the_folder(tmp_path):
    with pytest.raises(ValueError, match=rf"nowhere\.npz: there is no such file in {tmp_path}"):
        regression("nowhere.npz")


class Planted:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("planted",)


def test_nothing_is_unpickled():
    with pytest.raises(ValueError, match="Python objects"):
        regression(npz(extra=np.array([Planted()], dtype=object)))
    assert not Path("planted").exists()


def test_an_absurd_size_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(table_files, "MAX_BYTES", 10_000_000)
    np.savez_compressed("bomb.npz", x=np.zeros((1_000_000, 2)), y=np.zeros(1_000_000))
    assert Path("bomb.npz").stat().st_size < 100_000
    with pytest.raises(Damaged, match=r"bomb\.npz: unpacks to 24\.0 MB, more than the 10\.0 MB"):
        regression("bomb.npz")
    pd.DataFrame({"a": np.zeros(1_000_000), "b": np.zeros(1_000_000)}).to_parquet("bomb.parquet")
    with pytest.raises(Damaged, match=r"bomb\.parquet: unpacks to 16\.0 MB"):
        regression("bomb.parquet", "b")


def test_a_header_that_claims_more_than_the_file_has_is_a_broken_file():
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**15, 2)})
    with zipfile.ZipFile("liar.npz", "w") as packed:
        packed.writestr("x.npy", header.getvalue() + bytes(160))
        packed.writestr("y.npy", header.getvalue() + bytes(160))
    with pytest.raises(Damaged, match=r"liar\.npz: not an \.npz file, or cut off"):
        regression("liar.npz")
