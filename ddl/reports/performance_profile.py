"""Performance profiles over several runs: how often a configuration is within a fraction of the best one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ddl.ledger_tables import ENDED
from ddl.reports.model import RunReport

TAUS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Fractions of the best value."""

ROUNDING = 1e-9
"""Added to them: 0.95 is within 5% of 1, but 1 - 0.95 is a little more than 0.05 in binary."""


@dataclass(frozen=True)
class PerformanceProfile:
    """The fraction of `pairs` (a run and a seed) in which each configuration is within each of `TAUS` of the best one.

    Dolan and Moré, Math. Program. 91 (2002); Agarwal et al., NeurIPS 2021. `rows` maps the configurations that all runs have to their
    fractions. The gap is relative, so that runs with different metrics can be combined.
    """

    rows: Mapping[str, tuple[float, ...]]
    pairs: int


def performance_profile(runs: Sequence[RunReport]) -> PerformanceProfile | None:
    """The profile of the configurations that all `runs` have; None with fewer than two of them, of runs, or of pairs that ended.

    A trial that failed or diverged is in no distance of the best one, so it counts against its configuration.
    """
    shared = [c.name for c in runs[0].configurations if all(c.name in {o.name for o in run.configurations} for run in runs)]
    if len(runs) < 2 or len(shared) < 2:
        return None
    gaps = [gap for run in runs for gap in _gaps(run, shared)]
    if len(gaps) < 2:
        return None
    fractions = {name: tuple(sum(gap[name] <= tau + ROUNDING for gap in gaps) / len(gaps) for tau in TAUS) for name in shared}
    return PerformanceProfile(fractions, len(gaps))


def _gaps(run: RunReport, names: Sequence[str]) -> list[dict[str, float]]:
    """For each seed whose trials have ended: the relative distance of each configuration from the best, infinite without a value."""
    values = {c.name: c.values[run.primary] for c in run.configurations if c.name in names}
    trials = [t for t in run.trials if t.configuration in names]
    gaps = []
    for seed in sorted({t.seed for t in trials}):
        ended = {t.configuration for t in trials if t.seed == seed and t.status in ENDED}
        measured = {name: values[name][seed] for name in names if seed in values[name]}
        if len(ended) < len(names) or not measured:
            continue
        best = (max if run.primary_mode == "max" else min)(measured.values())
        distances = {name: 0.0 if value == best else abs(value - best) / (abs(best) or math.nan) for name, value in measured.items()}
        gaps.append({name: distances.get(name, math.inf) for name in names})
    return gaps
