"""results.csv and results.parquet: one row per trial in the order of the plan, from the ledger alone."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddl import durable
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import COUNTED, TrialRow
from ddl.redaction import Redactor
from ddl.reports import metric_kinds


def read_results(folder: Path) -> pd.DataFrame:
    """One row per trial: its configuration, how it ended, and its final values (NaN if it measured none).

    Columns: trial_id, configuration, status, reason, seed; one per swept key (`task.augmentation`), and per hyperparameter that the command
    line gave one value; counted (False for a trial that no mean of the report contains, because it failed, diverged or has not ended);
    epoch and elapsed_s (seconds trained) at the last measurement; the last value of each metric under its name; `best <metric>`, the best
    measurement of the sweep's metric (NaN for a trial that diverged); the last value of each cost (`time/...`, `device/...`,
    `latency/...`); parameters; stacked (number of trials that were trained as one model with this one, in `elapsed_s` seconds together; 1
    alone); precision, data, data_source, data_complete, fallback_for ("" unless the data are a fallback data set).
    """
    reader = LedgerReader(folder)
    return results_frame(reader.run("sweep.metric.name", "sweep.metric.mode"), reader.trials(), reader.metrics())


def results_frame(run: Mapping[str, Any], trials: list[TrialRow], metrics: pd.DataFrame) -> pd.DataFrame:
    """`read_results` of records that have been read from a ledger already."""
    rows = pd.DataFrame(
        {
            "trial_id": [t.trial_id for t in trials],
            "configuration": [t.configuration for t in trials],
            "status": [t.status for t in trials],
            "reason": [t.reason for t in trials],
            "seed": [t.seed for t in trials],
        }
    )
    keys = list(dict.fromkeys([*run["sweep"].get("keys", []), *(key for t in trials for key in t.swept)]))
    for key in keys:
        rows[key] = _one_type([t.swept.get(key) for t in trials])
    for key in _given(run, trials):
        if key not in keys:
            # The ledger has hyperparameters as a resume needs them.
            rows[key] = _one_type(Redactor().value([t.task.get(key.removeprefix("task.")) for t in trials]))
    rows["counted"] = rows["status"].isin(COUNTED)
    rows = rows.join(_finals(metrics, run["sweep"]["metric"]), on="trial_id")
    # A mean over seeds must neither become infinite nor contain the early success of a trial that diverged.
    rows.loc[rows["status"] == "diverged", f"best {run['sweep']['metric']['name']}"] = np.nan
    metadata = [dict(t.metadata or {}) for t in trials]
    data = [dict(f.get("data") or {}) for f in metadata]
    rows["parameters"] = pd.array([f.get("parameters") for f in metadata], dtype="Int64")
    rows["stacked"] = [f.get("stacked", 1) for f in metadata]
    rows["precision"] = [f.get("precision", "") for f in metadata]
    rows["data"] = [d.get("name", "") for d in data]
    rows["data_source"] = [d.get("source", "") for d in data]
    rows["data_complete"] = pd.array([d.get("complete") for d in data], dtype="boolean")
    rows["fallback_for"] = [d.get("fallback_for", "") for d in data]
    return rows


def per_trial(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with costs that can be compared between trials of stacks and trials alone.

    A stacked trial's time is that of all members, and its speed counts only its own examples.
    """
    speeds = [name for name in frame.columns if name.startswith("time/") and name.endswith("_per_s")]
    parts = {"elapsed_s": frame["elapsed_s"] / frame["stacked"], **{name: frame[name] * frame["stacked"] for name in speeds}}
    return frame.assign(**parts)


def write_results(folder: Path, rows: pd.DataFrame | None = None) -> None:
    """Write results.csv and results.parquet to the run folder. `rows` are those of `read_results`, if they have been read."""
    folder = Path(folder)
    rows = read_results(folder) if rows is None else rows
    shown = rows.rename(columns=_harmless).map(_harmless)
    durable.replace_file(folder / "results.csv", shown.to_csv(index=False).encode())
    parquet = io.BytesIO()
    rows.to_parquet(parquet, index=False)
    durable.replace_file(folder / "results.parquet", parquet.getvalue())


def _harmless(cell: Any) -> Any:
    """A cell of results.csv. A text that a spreadsheet would run as a formula gets an apostrophe; a negative number is none."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _finals(metrics: pd.DataFrame, metric: Mapping[str, str]) -> pd.DataFrame:
    """Final values by trial id: metrics by name, the sweep's best value, then costs."""
    # Not groupby().last(), which skips a last value that is NaN.
    last = metrics.drop_duplicates(["trial_id", "name"], keep="last")
    values = last.pivot(index="trial_id", columns="name", values="value")
    costs = [name for kind in metric_kinds.COSTS for name in values if str(name).startswith(kind)]
    of_metric = metrics[metrics["name"] == metric["name"]].groupby("trial_id")["value"]
    progress = metrics.drop_duplicates("trial_id", keep="last").set_index("trial_id")[["epoch", "elapsed_s"]]
    best = (of_metric.max() if metric["mode"] == "max" else of_metric.min()).rename(f"best {metric['name']}")
    finals = progress.join(values.drop(columns=costs)).join(best).join(values[costs])
    finals.columns.name = None
    return finals


def _given(run: Mapping[str, Any], trials: list[TrialRow]) -> list[str]:
    """The hyperparameters that the command line gave values, as `task.NAME`."""
    names = [override.partition("=")[0].removeprefix("task.") for override in run.get("overrides", [])]
    return [f"task.{name}" for name in dict.fromkeys(names) if any(name in t.task for t in trials) and name != "seed"]


def _one_type(values: list[Any]) -> list[Any]:
    """The values unchanged if one column type holds them all, else as JSON text: Parquet has no mixed columns."""
    kinds = {type(value) for value in values if value is not None}
    if int in kinds and any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
        kinds.add(object)
    if (len(kinds) <= 1 and kinds <= {str, bool, int, float}) or kinds == {int, float}:
        return values
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
