"""Curves over training: the mean over seeds of each metric and configuration, its interval, and the single seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ddl.reports.measures import LARGEST
from ddl.reports.metric_kinds import COUNTERS, in_order, is_cost, milestones
from ddl.reports.statistics import t_quantile

POINTS = 200
"""Most points of a curve; a screen shows no more."""

FEW_SEEDS = 5
FEW_TRIALS = 30
"""Single seeds are plotted up to this many seeds per configuration and trials per report."""


@dataclass(frozen=True)
class SeedCurve:
    """One trial's curve; `positions` as in `MeanCurve`."""

    seed: int
    x: tuple[float, ...]
    values: tuple[float, ...]
    positions: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class MeanCurve:
    """One configuration's mean curve.

    `x`, `mean`, `low`, `high` and `n` have one entry per point; `low` and `high` are NaN if n < 2. `seeds` is empty if there are too many
    to distinguish. `positions` has the points on each of the panel's axes: seeds are averaged at the same `x`, so on another axis a point is
    at the mean position of its seeds.
    """

    configuration: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]
    seeds: tuple[SeedCurve, ...]
    positions: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Panel:
    """The curves of one metric. `span` is the lowest and the highest value of any seed.

    `axes` are the horizontal axes, `x_name` the first of them: "epoch", else "env steps" if the trials count them, else "step"; then
    "seconds", and "episodes" if the trials count them.
    """

    metric: str
    x_name: str
    series: tuple[MeanCurve, ...]
    span: tuple[float, float]
    axes: tuple[str, ...]


def curve_panels(
    metrics: pd.DataFrame, configuration_of: dict[str, str], seed_of: dict[str, int], shown: Sequence[str], first: str
) -> tuple[Panel, ...]:
    """Curves of every `split/name` metric for the configurations `shown`.

    Costs and milestones have no curves. Metrics with one value per trial have none either, if other metrics have more. Bands are Student t
    intervals at each point for any n: hundreds of bootstraps would slow the report down, and no decision uses a band.
    """
    counted = metrics[metrics["name"].isin(list(COUNTERS))].drop_duplicates(["trial_id", "step", "name"], keep="last")
    counts = counted.pivot(index=["trial_id", "step"], columns="name", values="value").rename(columns=COUNTERS)
    every = metrics["name"].unique()
    skipped = {name for name in every if is_cost(name) or name in COUNTERS} | set(milestones(list(every)))
    rows = metrics[~metrics["name"].isin(list(skipped))].join(counts, on=["trial_id", "step"])
    often = rows.groupby("name").size() / rows.groupby("name")["trial_id"].nunique()
    if (often > 1).any():
        rows = rows[~rows["name"].isin(list(often.index[often == 1]))]
    rows["configuration"] = rows["trial_id"].map(configuration_of)
    rows["seed"] = rows["trial_id"].map(seed_of)
    rows = rows[rows["configuration"].isin(shown)]
    few = rows["trial_id"].nunique() <= FEW_TRIALS
    panels = [_panel(name, rows[rows["name"] == name], shown, few) for name in in_order(list(rows["name"].unique()), first)]
    return tuple(panel for panel in panels if panel is not None)


def _panel(metric: str, rows: pd.DataFrame, shown: Sequence[str], few: bool) -> Panel | None:
    finite = rows[rows["value"].abs() <= LARGEST]
    if finite.empty:
        return None
    counters = [axis for axis in COUNTERS.values() if axis in finite and finite[axis].notna().all()]
    x_name = "epoch" if finite["epoch"].notna().all() else "env steps" if "env steps" in counters else "step"
    axes = tuple(dict.fromkeys([x_name, "seconds", *counters]))
    points = _on_one_grid(finite.assign(x=finite[x_name].astype("float64")), counters)
    columns = {axis: "x" if axis == x_name else "elapsed_s" if axis == "seconds" else axis for axis in axes}
    series = [
        _series(configuration, points[points["configuration"] == configuration], columns, few)
        for configuration in shown
        if (points["configuration"] == configuration).any()
    ]
    return Panel(metric, x_name, tuple(series), (float(finite["value"].min()), float(finite["value"].max())), axes)


def _on_one_grid(rows: pd.DataFrame, counters: Sequence[str]) -> pd.DataFrame:
    """One row per trial and grid point, so that seeds can be averaged point by point.

    The grid is the measured x if the trials share them and they are few. Otherwise (env steps differ between seeds) it has as many bins of
    equal width as the longest trial has points, at most `POINTS`, each at its mean x.
    """
    xs = np.sort(rows["x"].unique())
    most = min(POINTS, int(rows.groupby("trial_id")["x"].nunique().max()))
    if len(xs) > most:
        edges = np.linspace(xs[0], xs[-1], most + 1)
        bins = np.clip(np.searchsorted(edges, rows["x"], side="right") - 1, 0, most - 1)
        rows = rows.assign(x=rows["x"].groupby(bins).transform("mean"))
    columns = ["configuration", "trial_id", "seed", "x"]
    return rows.groupby(columns, as_index=False)[["elapsed_s", "value", *counters]].mean()


def _series(configuration: str, points: pd.DataFrame, columns: Mapping[str, str], few: bool) -> MeanCurve:
    """`columns` maps each axis to the column of `points` that has the positions on it."""
    groups = points.groupby("x")
    mean, deviation, n = groups["value"].mean(), groups["value"].std(ddof=1), groups["value"].size()
    half = t_quantile(np.maximum(n - 1, 1)) * deviation / np.sqrt(n)
    seeds = []
    if few and points["trial_id"].nunique() <= FEW_SEEDS:
        for _, rows in points.groupby(["seed", "trial_id"]):
            at = {axis: _floats(rows[column]) for axis, column in columns.items()}
            seeds.append(SeedCurve(int(rows["seed"].iloc[0]), _floats(rows["x"]), _floats(rows["value"]), at))
    positions = {axis: _floats(groups[column].mean() if column != "x" else mean.index) for axis, column in columns.items()}
    return MeanCurve(
        configuration,
        _floats(mean.index),
        _floats(mean),
        _floats(mean - half),
        _floats(mean + half),
        tuple(int(value) for value in n),
        tuple(seeds),
        positions,
    )


def _floats(values: "pd.Series | pd.Index | NDArray[np.float64]") -> tuple[float, ...]:
    return tuple(float(value) for value in values)
