"""The published values of a sweep, and the reasons why a configuration must not be compared with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ddl.ledger_tables import TrialRow
from ddl.metric_direction import likely_mode
from ddl.reports.data_sets import describe_data


@dataclass(frozen=True)
class PublishedValues:
    """The published values of a sweep by configuration.

    `measure` is None if this run did not measure it; `mode` (max, min) is its direction. `absent` names the configurations that this run
    does not have. `seeds` and `spread` (standard deviation over them) are the source's own, None if it does not state them.
    """

    source: str
    metric: str
    measure: str | None
    mode: str
    tolerance: float
    values: Mapping[str, float]
    absent: tuple[str, ...]
    note: str
    seeds: int | None
    spread: float | None

    @property
    def precision(self) -> str:
        """The source's number of seeds and spread as text."""
        return (
            f"n {'unknown' if self.seeds is None else f'= {self.seeds}'}, spread {'unknown' if self.spread is None else f'{self.spread:g}'}"
        )


def column(measure: str) -> str:
    """The column of a `results_frame` that has the values of a measure."""
    return measure.removeprefix("last ")


def published_values(sweep: Mapping[str, Any], names: Sequence[str], frame: pd.DataFrame) -> PublishedValues | None:
    """The published values of a recorded `sweep`, None if it has none. `names` are the configurations, `frame` is the `results_frame`."""
    given = sweep.get("reference")
    if not given:
        return None
    metric = given["metric"]
    measure = metric if metric.startswith(("best ", "last ")) else f"last {metric}"
    name = measure.partition(" ")[2]
    return PublishedValues(
        source=given.get("source", "the reference"),
        metric=metric,
        measure=measure if column(measure) in frame.columns else None,
        mode=sweep["metric"]["mode"] if name == sweep["metric"]["name"] else likely_mode(name),
        tolerance=given["tolerance"],
        values=given["values"],
        absent=tuple(name for name in given["values"] if name not in names),
        note=given.get("note") or "",
        seeds=given.get("seeds"),
        spread=given.get("spread"),
    )


def obstacles_of(run: Mapping[str, Any], trials: Sequence[TrialRow]) -> list[str]:
    """Reasons why this configuration must not be compared with the reference."""
    reasons = []
    if run.get("scale", "unknown") not in ("", "paper"):
        reasons.append(f"at {run.get('scale', 'unknown')} scale, unlike the reference")
    data = list(dict.fromkeys(d for d in map(describe_data, trials) if d is not None))
    reasons += [f"on {d.name}, a fallback data set for {d.fallback_for}" for d in data if d.fallback_for]
    reasons += [f"on a sample of {d.name} ({d.source})" for d in data if not d.fallback_for and not d.complete]
    # An override of a hyperparameter that configurations set replaces it in all of them; one of an axis takes some of its values.
    forced = run["sweep"].get("forced") or []
    swept = [key for key in run["sweep"].get("keys") or [] if key not in forced]
    given = [o.lstrip("+~") for o in run.get("overrides", [])]
    changed = [o for o in given if o.startswith("task.") and o.split("=")[0] not in swept]
    if changed:
        reasons.append(f"with other hyperparameters: {', '.join(changed)}")
    if run.get("population"):
        reasons.append("with hyperparameters that population based training changed")
    return reasons
