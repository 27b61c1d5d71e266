"""The measurements of a run by configuration: estimates over seeds, comparisons, and verdicts on the reference values."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from ddl.ledger_tables import COUNTED, LOST, TrialRow
from ddl.power import ALL_PAIRS
from ddl.reports import metric_kinds, statistics, verdicts
from ddl.reports.data_sets import DataDescription, describe_data
from ddl.reports.published import PublishedValues, column, obstacles_of, published_values
from ddl.reports.results import per_trial
from ddl.reports.statistics import Comparison, Estimate
from ddl.reports.verdicts import Ordering, Verdict
from ddl.units import count

LARGEST = 1e150
"""Largest absolute value that counts as finite: the square of a larger one, and so its interval, is infinite."""


@dataclass(frozen=True)
class Configuration:
    """One configuration over its seeds. `estimates` and `values` (by seed) are keyed by measure.

    `costs` are means, `cost_estimates` the same with intervals. `milestones` are over the trials that reached them, and lack those
    that no trial reached. `swept` maps each swept key to its value.

    `interquartile_means` has the measures with enough values. `binomial_errors` has the standard errors of the measures that are accuracies
    on the `examples` of the validation set; `examples` is None if their number is unknown or differs between trials.
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
    interquartile_means: Mapping[str, Estimate]
    binomial_errors: Mapping[str, float]
    examples: int | None

    @property
    def counted(self) -> int:
        """Number of trials that count."""
        return sum(self.statuses.get(status, 0) for status in COUNTED)

    @property
    def lost(self) -> int:
        """Number of trials that failed or diverged, which no mean contains."""
        return sum(self.statuses.get(status, 0) for status in LOST)

    def trials_text(self, measure: str) -> str:
        """Number of trials in the mean of `measure`, of how many, and the status of the others: "8 of 10; 2 diverged"."""
        return f"{self.estimates[measure].n}{self.missing_text(measure)}"

    def missing_text(self, measure: str) -> str:
        """The end of `trials_text`, "" if the mean contains every trial."""
        n, trials = self.estimates[measure].n, sum(self.statuses.values())
        others = [f"{k} {status}" for status, k in self.statuses.items() if status not in COUNTED]
        others += [f"{self.counted - n} without a value"] if n < self.counted else []
        return f" of {trials}; {', '.join(others)}" if others else ""

    def reached_text(self, milestone: str) -> str:
        """Number of trials that reached the milestone, of all that ended, and the status of those that failed: "5 of 8; 3 diverged"."""
        reached = self.milestones[milestone].n if milestone in self.milestones else 0
        lost = [f"{k} {status}" for status, k in self.statuses.items() if status in LOST]
        return "; ".join([f"{reached} of {self.counted + self.lost}", *lost])


@dataclass(frozen=True)
class Measured:
    """The measurements of a whole run.

    Each of `measures` is named "best <metric>" (over epochs) or "last <metric>"; the report leads with `primary`, whose direction
    `primary_mode` ("max", "min") is that of the published metric if it is one. `comparisons` are by measure. `margins` has the smallest
    difference that the user cares about, declared before the run, for each measure of the sweep's metric; it is empty if none was.
    `dropped` maps the configurations that left a race to their seeds when they left.
    """

    measures: tuple[str, ...]
    primary: str
    primary_mode: str
    data: tuple[DataDescription, ...]
    reference: PublishedValues | None
    configurations: tuple[Configuration, ...]
    costs: tuple[str, ...]
    milestones: tuple[str, ...]
    comparisons: Mapping[str, tuple[Comparison, ...]]
    comparisons_note: str
    ordering: Ordering | None
    margins: Mapping[str, float]
    dropped: Mapping[str, int]

    def ranked(self, measure: str, mode: str) -> list[Configuration]:
        """The configurations that have a value, best first, as the function of the same name."""
        return ranked(self.configurations, measure, mode, self.dropped)

    @property
    def best_first(self) -> list[Configuration]:
        """The configurations that have a value of the primary measure, best first."""
        return self.ranked(self.primary, self.primary_mode)


def measure_run(run: Mapping[str, Any], trials: Sequence[TrialRow], frame: pd.DataFrame) -> Measured:
    """Measure a run. `run` and `trials` are as in the ledger, `frame` is their `results_frame`."""
    sweep = run["sweep"]
    metric, mode = sweep["metric"]["name"], sweep["metric"]["mode"]
    names = list(dict.fromkeys(t.configuration for t in trials))
    reference = published_values(sweep, names, frame)
    primary, primary_mode = f"best {metric}", mode
    if reference is not None and reference.measure:
        primary, primary_mode = reference.measure, reference.mode
    measures = tuple(dict.fromkeys([f"best {metric}", f"last {metric}", primary]))
    winner = ""
    if confirms := run.get("confirms"):
        primary, primary_mode = f"last {metric}" if confirms["holdout"] else confirms["measure"], mode
        winner = next(iter(confirms["configurations"]))
        measures = (primary,)  # test data are evaluated once, so there is no best epoch on them
    milestones = tuple(metric_kinds.milestones(list(frame.columns)))
    # `time/train_s` is the `elapsed_s` of a finished trial.
    measured = [name for name in frame.columns if metric_kinds.is_cost(name) and name not in (*milestones, "time/train_s")]
    costs = ("parameters", "elapsed_s", *(name for name in measured if "p90_" not in name and "p99_" not in name))
    rows = dict(list(per_trial(frame).groupby("configuration")))
    members: dict[str, list[TrialRow]] = {}
    for trial in trials:
        members.setdefault(trial.configuration, []).append(trial)
    configurations = tuple(
        _configuration(name, rows[name], measures, costs, milestones, reference, obstacles_of(run, members[name]), members[name])
        for name in names
    )
    costs = tuple(cost for cost in costs if any(cost in c.costs for c in configurations))
    dropped = {drop["configuration"]: drop["seeds"] for drop in (run.get("race") or {}).get("drops", [])}
    best_first = ranked(configurations, primary, primary_mode, dropped)
    if len(configurations) > ALL_PAIRS:
        first = {c.name for c in best_first}
        configurations = (*best_first, *(c for c in configurations if c.name not in first))
    pairs, note = _pairs([c.name for c in configurations], [c.name for c in best_first], reference, winner)
    comparisons = {m: tuple(statistics.compare({c.name: c.values[m] for c in configurations}, pairs)) for m in measures}
    if run.get("population"):
        comparisons = {
            m: tuple(statistics.untested(pair, "trials continued from each other") for pair in found) for m, found in comparisons.items()
        }
    ordering = None
    if reference is not None and reference.measure:
        ours = {c.name: c.estimates[reference.measure] for c in configurations}
        expected = {name: value for name, value in reference.values.items() if name in ours}
        ordering = verdicts.compare_order(expected, reference.mode, ours, comparisons[reference.measure])
    data = tuple(dict.fromkeys(d for d in map(describe_data, trials) if d is not None))
    margin = float((run.get("launch") or {}).get("margin", 0.0))
    margins = {m: margin for m in measures if margin > 0 and m.partition(" ")[2] == metric}
    return Measured(
        measures, primary, primary_mode, data, reference, configurations, costs, milestones, comparisons, note, ordering, margins, dropped
    )


def ranked(configurations: Sequence[Configuration], by: str, mode: str, dropped: Mapping[str, int]) -> list[Configuration]:
    """The configurations that have a value of the measure `by`, best mean first.

    Those that a race has `dropped` come after the others, the last dropped first: they have fewer seeds, and means over different seeds
    do not show which configuration is better.
    """
    sign = -1 if mode == "max" else 1
    measured = [(c.estimates[by].mean, c) for c in configurations]
    keyed = [((-dropped.get(c.name, math.inf), sign * mean), c) for mean, c in measured if mean is not None]
    return [c for _, c in sorted(keyed, key=lambda pair: pair[0])]


def _configuration(
    name: str,
    rows: pd.DataFrame,
    measures: Sequence[str],
    costs: Sequence[str],
    milestones: Sequence[str],
    reference: PublishedValues | None,
    obstacles: Sequence[str],
    members: Sequence[TrialRow],
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
        verdict = verdicts.verdict_on(ours, value, reference.tolerance, obstacles, gaps, reference.mode)
    precision = ", ".join(sorted({p for p in rows["precision"] if p}))
    middles = {m: middle for m in measures if (middle := statistics.interquartile_mean(values[m].values())) is not None}
    sizes = {d.val for d in map(describe_data, members) if d is not None}
    examples = sizes.pop() if len(sizes) == 1 else None
    errors = _binomial_errors(estimates, examples) if examples else {}
    swept = members[0].swept
    return Configuration(
        name, statuses, estimates, values, means, precision, value, verdict, costly, reached, swept, middles, errors, examples
    )


def _binomial_errors(estimates: Mapping[str, Estimate], examples: int) -> dict[str, float]:
    """The standard errors of the means that are accuracies. A user's accuracy in percent is none between 0 and 1."""
    means = {m: e.mean for m, e in estimates.items() if metric_kinds.is_accuracy(m.partition(" ")[2]) and e.mean is not None}
    return {m: statistics.binomial_error(mean, examples) for m, mean in means.items() if 0 <= mean <= 1}


def _finite(rows: pd.DataFrame, name: str) -> dict[int, float]:
    if name not in rows.columns:
        return {}
    return {int(s): float(v) for s, v in zip(rows["seed"], rows[name], strict=True) if pd.notna(v) and abs(v) <= LARGEST}


def _pairs(
    names: Sequence[str], best_first: Sequence[str], reference: PublishedValues | None, winner: str
) -> tuple[list[tuple[str, str]], str]:
    """The pairs to compare, and a note if not every pair is compared. `winner` is the best of the search that the run confirms, or ""."""
    if len(names) <= ALL_PAIRS:
        return list(combinations(names, 2)), ""
    if winner:
        note = f"With {len(names)} configurations, each is compared with the best one of the search only."
        return [(winner, other) for other in best_first if other != winner], note
    pairs = [(best_first[0], other) for other in best_first[1:]]
    known = [name for name in names if reference is not None and name in reference.values]
    pairs += [pair for pair in combinations(known, 2) if pair not in pairs and pair[::-1] not in pairs]
    return pairs, (
        f"With {len(names)} configurations, each is compared with the best one only. The best one was selected on "
        "the same seeds, so its lead is optimistic."
    )
