import numpy as np
import pandas as pd
import pytest

from ddl.ledger import Ledger
from ddl.ledger_tables import TrialRow
from ddl.reports import results
from ddl.trial_report import OTHER_COLUMNS

from .synthetic import SAMPLE

FINAL = {"none": 0.8, "light": 0.7}


def test_one_row_a_trial_in_the_order_of_the_plan(make_run):
    rows = results.read_results(make_run(FINAL, epochs=3, data=SAMPLE))
    assert list(rows["configuration"]) == ["none"] * 3 + ["light"] * 3
    assert list(rows["seed"]) == [0, 1, 2] * 2
    assert list(rows["task.augmentation"]) == list(rows["configuration"])
    assert set(rows["status"]) == {"finished"}
    assert list(rows.columns[:6]) == ["trial_id", "configuration", "status", "reason", "seed", "task.augmentation"]
    assert {"train/loss", "val/accuracy", "best val/accuracy", "time/images_per_s"} <= set(rows.columns)
    assert set(rows["data_source"]) == {"bundled sample"}
    assert not rows["data_complete"].any()
    assert set(rows["epoch"]) == {3}
    metrics = [name for name in rows if "/" in name or name.startswith("task.")]
    assert [name for name in rows if name not in metrics] == OTHER_COLUMNS, "no metric may have these names"


def test_last_is_the_last_epoch_and_best_the_best(make_run):
    def falling(configuration, seed, epoch, metrics):
        return metrics | {"val/accuracy": [0.5, 0.9, 0.7][epoch - 1] + seed / 100}

    rows = results.read_results(make_run({"none": 0.8}, epochs=3, alter=falling))
    assert list(rows["val/accuracy"]) == pytest.approx([0.7, 0.71, 0.72])
    assert list(rows["best val/accuracy"]) == pytest.approx([0.9, 0.91, 0.92])


def test_best_is_the_least_where_less_is_better(make_run):
    def falling(configuration, seed, epoch, metrics):
        return metrics | {"val/loss": [0.5, 0.2, 0.4][epoch - 1]}

    sweep = {"name": "s", "metric": {"name": "val/loss", "mode": "min"}, "keys": []}
    rows = results.read_results(make_run({"none": 0.8}, epochs=3, alter=falling, sweep=sweep))
    assert set(rows["best val/loss"]) == {0.2}


def test_a_last_value_that_is_not_a_number_stays_one(make_run):
    def breaking(configuration, seed, epoch, metrics):
        return metrics | ({"val/accuracy": float("nan")} if epoch == 3 else {})

    rows = results.read_results(make_run({"none": 0.8}, epochs=3, alter=breaking))
    assert rows["val/accuracy"].isna().all(), "an earlier epoch's value must not replace the last"
    assert rows["best val/accuracy"].notna().all()


@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
def test_a_diverged_trial_has_no_best_and_does_not_spoil_a_mean(make_run, broken):
    def breaking(configuration, seed, epoch, metrics):
        return metrics | ({"val/accuracy": broken} if (seed, epoch) == (1, 3) else {})

    rows = results.read_results(make_run({"none": 0.8}, epochs=3, alter=breaking, endings={("none", 1): ("diverged", "")}))
    assert rows["best val/accuracy"].isna().tolist() == [False, True, False]
    assert np.isfinite(rows.groupby("task.augmentation")["best val/accuracy"].mean()).all()


def test_trials_that_measured_nothing_have_a_row(make_run):
    planned = {("none", s): ("planned", "") for s in range(3)} | {("light", 0): ("failed", "out of memory")}
    rows = results.read_results(make_run(FINAL, epochs=4, endings=planned))
    assert list(rows["status"]) == ["planned"] * 3 + ["failed", "finished", "finished"]
    assert rows["val/accuracy"].isna().tolist() == [True] * 3 + [False] * 3
    assert rows["reason"][3] == "out of memory"


def test_a_run_without_any_measurement_can_be_written(make_run):
    folder = make_run(FINAL, endings={(name, s): ("planned", "") for name in FINAL for s in range(3)})
    results.write_results(folder)
    rows = pd.read_parquet(folder / "results.parquet")
    assert len(rows) == 6
    assert rows["best val/accuracy"].isna().all()


def test_the_files_hold_the_frame(make_run):
    folder = make_run(FINAL, epochs=3)
    results.write_results(folder)
    rows = results.read_results(folder)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "results.parquet"), rows)
    written = pd.read_csv(folder / "results.csv", keep_default_na=False)
    assert list(written.columns) == list(rows.columns)
    np.testing.assert_array_equal(written["val/accuracy"].to_numpy(float), rows["val/accuracy"].to_numpy())
    assert (folder / "results.csv").stat().st_mode & 0o777 == 0o644


def test_swept_values_of_several_kinds_fit_one_column(tmp_path):
    swept = [1, "auto", [1, 2], None, True]
    trials = [
        TrialRow(f"t{i}", i, str(i), {"task.x": value, "task.lr": lr}, {}, 0)
        for i, (value, lr) in enumerate(zip(swept, [1, 0.1] * 3, strict=False))
    ]
    Ledger.create(tmp_path, {"sweep": {"metric": {"name": "val/loss", "mode": "min"}, "keys": ["task.x", "task.lr"]}}, trials).__exit__()
    results.write_results(tmp_path)
    rows = pd.read_parquet(tmp_path / "results.parquet")
    assert [None if pd.isna(x) else x for x in rows["task.x"]] == ["1", "auto", "[1, 2]", None, "true"]
    assert list(rows["task.lr"]) == [1, 0.1, 1, 0.1, 1]


def test_a_failed_write_leaves_the_old_file_and_no_other(make_run, monkeypatch):
    folder = make_run(FINAL, epochs=1)
    results.write_results(folder)
    before = sorted(folder.iterdir()), (folder / "results.csv").read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        results.write_results(folder)
    assert (sorted(folder.iterdir()), (folder / "results.csv").read_bytes()) == before
