"""The measurements of a run by configuration: estimates over seeds, comparisons, and verdicts on the reference values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ddl.ledger import TrialRow
from ddl.reports import metric_kinds, statistics, verdicts
from ddl.reports.statistics import Comparison, Estimate
from ddl.reports.verdicts import Ordering, Verdict
from ddl.reports.wording import count

COUNTED = ("finished", "stopped")
"""A trial stopped by a scheduler counts with the values it had reached; leaving it out would favour its configuration."""

ALL_PAIRS = 12
"""Up to this many configurations, every pair is compared. With more, each is compared with the best one, and the best come first."""


@dataclass(frozen=True)
class DataDescription:
    """The data of a trial as it recorded them. `train` and `val` are numbers of examples, None if unknown."""

    name: str
    source: str
    complete: bool
    fallback_for: str
    sha256: str
    train: int | None
    val: int | None

    @property
    def label(self) -> str:
        """Name, kind and source."""
        kind = f" (fallback data set for {self.fallback_for})" if self.fallback_for else "" if self.complete else " (sample)"
        return f"{self.name}{kind}, {self.source}" if self.source else f"{self.name}{kind}"

    @property
    def genuine(self) -> bool:
        """True for the complete data set that was asked for."""
        return self.complete and not self.fallback_for


@dataclass(frozen=True)
class PublishedValues:
    """The published values of a sweep by configuration.

    `measure` is None if this run did not measure it; `absent` names the configurations that this run does not have.
    """

    source: str
    metric: str
    measure: str | None
    tolerance: float
    values: Mapping[str, float]
    absent: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Configuration:
    """One configuration over its seeds. `estimates` and `values` (by seed) are keyed by measure.

    `costs` are means, `cost_estimates` the same with intervals. `milestones` are over the trials that reached them, and lack those
    that no trial reached. `swept` maps each swept key to its value.
    """

    name: str
    statuses: Mapping[str, int]
    estimates: Mapping[str, Estimate]
    values: Mapping[str, Mapping[int, float]]
    costs: Mapping[str, float]
    precision: str
    reference: float | None
    verdict: Verdict | None
    cost_estimates: Mapping[str, Estimate]
    milestones: Mapping[str, Estimate]
    swept: Mapping[str, Any]

    @property
    def counted(self) -> int:
        """Number of trials that count."""
        return sum(self.statuses.get(status, 0) for status in COUNTED)


@dataclass(frozen=True)
class Measured:
    """The measurements of a whole run.

    Each of `measures` is named "best <metric>" (over epochs) or "last <metric>"; the report leads with `primary`. `comparisons` are
    by measure.
    """

    measures: tuple[str, ...]
    primary: str
    data: tuple[DataDescription, ...]
    reference: PublishedValues | None
    configurations: tuple[Configuration, ...]
    costs: tuple[str, ...]
    milestones: tuple[str, ...]
    comparisons: Mapping[str, tuple[Comparison, ...]]
    comparisons_note: str
    ordering: Ordering | None

    def ranked(self, measure: str, mode: str) -> list[Configuration]:
        """The configurations that have a value, best mean first."""
        return ranked(self.configurations, measure, mode)


def measure_run(run: Mapping[str, Any], trials: Sequence[TrialRow], frame: pd.DataFrame) -> Measured:
    """Measure a run. `run` and `trials` are as in the ledger, `frame` is their `results_frame`."""
    sweep = run["sweep"]
    metric, mode = sweep["metric"]["name"], sweep["metric"]["mode"]
    names = list(dict.fromkeys(t.configuration for t in trials))
    reference = _reference(sweep, names, frame)
    primary = reference.measure if reference is not None and reference.measure else f"best {metric}"
    measures = tuple(dict.fromkeys([f"best {metric}", f"last {metric}", primary]))
    if confirms := run.get("confirms"):
        primary = f"last {metric}" if confirms["holdout"] else confirms["measure"]
        measures = (primary,)  # test data are evaluated once, so there is no best epoch on them
    milestones = tuple(metric_kinds.milestones(list(frame.columns)))
    measured = [name for name in frame.columns if metric_kinds.is_cost(name) and name not in milestones]
    costs = ("parameters", "elapsed_s", *(name for name in measured if "p90_" not in name and "p99_" not in name))
    rows = {name: frame[frame["configuration"] == name] for name in names}
    members = {name: [t for t in trials if t.configuration == name] for name in names}
    configurations = tuple(
        _configuration(name, rows[name], measures, costs, milestones, reference, _obstacles(run, members[name]), members[name][0].swept)
        for name in names
    )
    costs = tuple(cost for cost in costs if any(cost in c.costs for c in configurations))
    if len(configurations) > ALL_PAIRS:
        best_first = ranked(configurations, primary, mode)
        configurations = (*best_first, *(c for c in configurations if c not in best_first))
    pairs, note = _pairs(configurations, primary, mode, reference)
    comparisons = {m: tuple(statistics.compare({c.name: c.values[m] for c in configurations}, pairs)) for m in measures}
    ordering = None
    if reference is not None and reference.measure:
        ours = {c.name: c.estimates[reference.measure] for c in configurations}
        expected = {name: value for name, value in reference.values.items() if name in ours}
        ordering = verdicts.compare_order(expected, mode, ours, comparisons[reference.measure])
    data = tuple(dict.fromkeys(d for d in map(describe_data, trials) if d is not None))
    return Measured(measures, primary, data, reference, configurations, costs, milestones, comparisons, note, ordering)


def ranked(configurations: Sequence[Configuration], by: str, mode: str) -> list[Configuration]:
    """The configurations that have a value of the measure `by`, best mean first."""
    sign = -1 if mode == "max" else 1
    measured = [(c.estimates[by].mean, c) for c in configurations]
    return [c for mean, c in sorted(((m, c) for m, c in measured if m is not None), key=lambda pair: sign * pair[0])]


def describe_data(trial: TrialRow) -> DataDescription | None:
    """The data of a trial; None if it has not recorded them yet or reads no data set."""
    data = (trial.metadata or {}).get("data")
    if not data:
        return None
    return DataDescription(
        name=data.get("name", ""),
        source=data.get("source", ""),
        complete=bool(data.get("complete", False)),  # unless recorded as complete, data count as a sample
        fallback_for=data.get("fallback_for", ""),
        sha256=data.get("sha256", ""),
        train=data.get("train"),
        val=data.get("val"),
    )


def column(measure: str) -> str:
    """The column of a `results_frame` that has the values of a measure."""
    return measure.removeprefix("last ")


def _reference(sweep: Mapping[str, Any], names: Sequence[str], frame: pd.DataFrame) -> PublishedValues | None:
    given = sweep.get("reference")
    if not given:
        return None
    metric = given["metric"]
    measure = metric if metric.startswith(("best ", "last ")) else f"last {metric}"
    return PublishedValues(
        source=given.get("source", "the reference"),
        metric=metric,
        measure=measure if column(measure) in frame.columns else None,
        tolerance=given["tolerance"],
        values=given["values"],
        absent=tuple(name for name in given["values"] if name not in names),
        note=given.get("note") or "",
    )


def _obstacles(run: Mapping[str, Any], trials: Sequence[TrialRow]) -> list[str]:
    """Reasons why this configuration must not be compared with the reference."""
    reasons = []
    if run.get("scale", "unknown") not in ("", "paper"):
        reasons.append(f"at {run.get('scale', 'unknown')} scale, unlike the reference")
    data = list(dict.fromkeys(d for d in map(describe_data, trials) if d is not None))
    reasons += [f"on {d.name}, a fallback data set for {d.fallback_for}" for d in data if d.fallback_for]
    reasons += [f"on a sample of {d.name} ({d.source})" for d in data if not d.fallback_for and not d.complete]
    swept = run["sweep"].get("keys", [])
    given = [o.lstrip("+~") for o in run.get("overrides", [])]
    changed = [o for o in given if o.startswith("task.") and o.split("=")[0] not in swept]
    if changed:
        reasons.append(f"with other hyperparameters: {', '.join(changed)}")
    return reasons


def _configuration(
    name: str,
    rows: pd.DataFrame,
    measures: Sequence[str],
    costs: Sequence[str],
    milestones: Sequence[str],
    reference: PublishedValues | None,
    obstacles: Sequence[str],
    swept: Mapping[str, Any],
) -> Configuration:
    statuses = dict(Counter(rows["status"]))
    counted = rows[rows["status"].isin(COUNTED)]
    values = {m: _finite(counted, column(m)) for m in measures}
    estimates = {m: statistics.estimate(values[m].values()) for m in measures}
    costly, reached = (
        {name: statistics.estimate(finite) for name in names if (finite := _finite(counted, name).values())}
        for names in (costs, milestones)
    )
    means = {cost: e.mean for cost, e in costly.items() if e.mean is not None}
    value = None if reference is None else reference.values.get(name)
    verdict = None
    if reference is not None and value is not None:
        ours = estimates[reference.measure] if reference.measure else Estimate(0, None)
        gaps = [f"{n} of {len(rows)} {status}" for status, n in statuses.items() if status != "finished"]
        if reference.measure is None:
            gaps.append(f"“{reference.metric}” was not measured")
        elif ours.n < len(counted):
            gaps.append(f"{count(len(counted) - ours.n, 'trial')} without a finite value")
        verdict = verdicts.verdict_on(ours, value, reference.tolerance, obstacles, gaps)
    precision = ", ".join(sorted({p for p in rows["precision"] if p}))
    return Configuration(name, statuses, estimates, values, means, precision, value, verdict, costly, reached, swept)


def _finite(rows: pd.DataFrame, name: str) -> dict[int, float]:
    if name not in rows.columns:
        return {}
    return {int(s): float(v) for s, v in zip(rows["seed"], rows[name], strict=True) if pd.notna(v) and np.isfinite(v)}


def _pairs(
    configurations: Sequence[Configuration], primary: str, mode: str, reference: PublishedValues | None
) -> tuple[list[tuple[str, str]], str]:
    """The pairs to compare, and a note if not every pair is compared."""
    names = [c.name for c in configurations]
    if len(names) <= ALL_PAIRS:
        return list(combinations(names, 2)), ""
    order = [c.name for c in ranked(configurations, primary, mode)]
    pairs = [(order[0], other) for other in order[1:]]
    known = [name for name in names if reference is not None and name in reference.values]
    pairs += [pair for pair in combinations(known, 2) if pair not in pairs and pair[::-1] not in pairs]
    return pairs, (
        f"With {len(names)} configurations, each is compared with the best one only. The best one was selected on "
        "the same seeds, so its lead is optimistic."
    )
