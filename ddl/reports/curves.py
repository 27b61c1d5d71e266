"""Curves over training: for each metric and configuration the mean over seeds, its interval, and the seeds themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ddl.reports.statistics import CONFIDENCE

POINTS = 200
"""The most points a curve keeps; a screen shows no more."""

FEW_SEEDS = 5
FEW_TRIALS = 30


@dataclass(frozen=True)
class SeedCurve:
    seed: int
    x: tuple[float, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Series:
    """One configuration's mean curve.

    `x` (epochs or steps), `seconds` (trained so far, mean over seeds), `mean`, `low`, `high` and `n` have one entry a point;
    `low` and `high` are NaN where n < 2. `seeds` is empty where there are too many to be told apart.
    """

    configuration: str
    x: tuple[float, ...]
    seconds: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]
    seeds: tuple[SeedCurve, ...]


@dataclass(frozen=True)
class Panel:
    """One metric's curves. `x_name` is "epoch" or "step"; `span` the least and greatest value any seed measured."""

    metric: str
    x_name: str
    series: tuple[Series, ...]
    span: tuple[float, float]


def panels(
    metrics: pd.DataFrame, configuration_of: dict[str, str], seed_of: dict[str, int], shown: Sequence[str], first: str
) -> tuple[Panel, ...]:
    """Curves of every `split/name` metric for the configurations `shown`.

    Timings and utilisation are no curves. Bands are Student t intervals at every point, whatever n is: hundreds of bootstraps would
    slow the report, and nothing is decided from a band.
    """
    rows = metrics[~metrics["name"].str.startswith(("time/", "device/", "latency/"))].copy()
    rows["configuration"] = rows["trial_id"].map(configuration_of)
    rows["seed"] = rows["trial_id"].map(seed_of)
    rows = rows[rows["configuration"].isin(shown)]
    few = rows["trial_id"].nunique() <= FEW_TRIALS
    drawn = [_panel(name, rows[rows["name"] == name], shown, few) for name in in_order(list(rows["name"].unique()), first)]
    return tuple(panel for panel in drawn if panel is not None)


def in_order(names: Sequence[str], first: str) -> list[str]:
    """Metric names: `first` and what measures the same quantity, then losses, then the rest; validation before training."""
    quantity = first.split("/", 1)[-1]
    splits = ["val", "test", "train"]

    def place(name: str) -> tuple[bool, bool, str, int, str]:
        split, _, rest = name.partition("/")
        return rest != quantity, rest != "loss", rest, splits.index(split) if split in splits else 1, split

    return sorted(names, key=place)


def _panel(metric: str, rows: pd.DataFrame, shown: Sequence[str], few: bool) -> Panel | None:
    finite = rows[np.isfinite(rows["value"])]
    if finite.empty:
        return None
    x_name = "epoch" if finite["epoch"].notna().all() else "step"
    points = _on_one_grid(finite.assign(x=finite[x_name].astype("float64")))
    series = [
        _series(configuration, points[points["configuration"] == configuration], few)
        for configuration in shown
        if (points["configuration"] == configuration).any()
    ]
    return Panel(metric, x_name, tuple(series), (float(finite["value"].min()), float(finite["value"].max())))


def _on_one_grid(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a trial and grid point, so that seeds can be averaged point by point.

    The grid is the measured x where trials share them and they are few; otherwise (env steps differ from seed to seed)
    as many bins of equal width as the longest trial has points, at most `POINTS`, each standing at its mean x.
    """
    xs = np.sort(rows["x"].unique())
    most = min(POINTS, int(rows.groupby("trial_id")["x"].nunique().max()))
    if len(xs) > most:
        edges = np.linspace(xs[0], xs[-1], most + 1)
        bins = np.clip(np.searchsorted(edges, rows["x"], side="right") - 1, 0, most - 1)
        rows = rows.assign(x=rows["x"].groupby(bins).transform("mean"))
    columns = ["configuration", "trial_id", "seed", "x"]
    return rows.groupby(columns, as_index=False)[["elapsed_s", "value"]].mean()


def _series(configuration: str, points: pd.DataFrame, few: bool) -> Series:
    groups = points.groupby("x")
    mean, deviation, n = groups["value"].mean(), groups["value"].std(ddof=1), groups["value"].size()
    half = stats.t.ppf((1 + CONFIDENCE) / 2, np.maximum(n - 1, 1)) * deviation / np.sqrt(n)
    seeds = []
    if few and points["trial_id"].nunique() <= FEW_SEEDS:
        for _, rows in points.groupby(["seed", "trial_id"]):
            seeds.append(SeedCurve(int(rows["seed"].iloc[0]), _floats(rows["x"]), _floats(rows["elapsed_s"]), _floats(rows["value"])))
    return Series(
        configuration,
        _floats(mean.index),
        _floats(groups["elapsed_s"].mean()),
        _floats(mean),
        _floats(mean - half),
        _floats(mean + half),
        tuple(int(value) for value in n),
        tuple(seeds),
    )


def _floats(values: "pd.Series | pd.Index | NDArray[np.float64]") -> tuple[float, ...]:
    return tuple(float(value) for value in values)
