"""The line of the plan about the number of seeds: the differences that they can show, by the spread of an earlier run."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ddl import power
from ddl.composed_sweep import Sweep
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import COUNTED, ENDED
from ddl.run_folder import LEDGER
from ddl.schema import Metric
from ddl.yamlfile import FOLDER


def seeds_note(sweep: Sweep, configurations: int, out: Path | None) -> str:
    """The note on a sweep with so many configurations. `out` is the folder of all runs, in which an earlier run of the sweep may be."""
    seeds, comparisons = sweep.launch.most_seeds, power.comparison_count(configurations)
    default = " (default)" if Path(sweep.where["seeds"].rpartition(":")[0]) == FOLDER / "launch.yaml" else ""
    race, note, they = sweep.launch.race, f"seeds: {seeds}{default}", "they"
    if race:
        note, they = f"seeds: {race.at_least} to {race.at_most}, until the answer is settled", f"{race.at_most}"
    if seeds == 1:
        return f"{note}; intervals need at least 2, as in seeds=3"
    if comparisons == 0:
        return note
    effect, margin = power.detectable_effect(seeds, comparisons), float(sweep.launch.margin)
    earlier = _earlier_spread(out, sweep.name, sweep.scale, sweep.file.metric) if out else None
    if earlier is None:
        return f"{note}; {they} can show differences of {effect:.1f} standard deviations (of the paired differences) or more"
    folder, spread = earlier
    note += f"; by the spread of {folder}, {they} can show differences in {sweep.file.metric.name} of {effect * spread:.2g} or more"
    if margin > 0:
        needed = power.seeds_needed(margin / spread, comparisons)
        note += f"; {margin:g} would take {f'more than {power.MOST_SEEDS:,}' if needed is None else needed} seeds"
    return note


def _earlier_spread(out: Path, name: str, scale: str, metric: Metric) -> tuple[Path, float] | None:
    """The newest finished run of the same sweep, scale and metric, and the spread of its paired differences; None if there is none."""
    runs = {run.name: run for run in (out / name).glob("*")}
    runs |= {stamp.name: stamp / name for several in ("all", "several") for stamp in (out / several).glob("*")}
    for _, folder in sorted(runs.items(), reverse=True):  # the names are times
        if not (folder / LEDGER).is_file():
            continue
        try:
            reader = LedgerReader(folder)
            record, trials = reader.run(), reader.trials()
        except ValueError:  # of another version of ddl, or damaged: an older run serves as well
            continue
        recorded = (record.get("sweep") or {}).get("metric") or {}
        same = record.get("scale") == scale and (recorded.get("name"), recorded.get("mode")) == (metric.name, metric.mode)
        if same and trials and all(trial.status in ENDED for trial in trials):
            seeds = {t.trial_id: (t.configuration, t.seed) for t in trials if t.status in COUNTED}
            if spread := _spread(reader, seeds, metric):
                return folder, spread
    return None


def _spread(reader: LedgerReader, seeds: dict[str, tuple[str, int]], metric: Metric) -> float | None:
    """Pooled standard deviation of the paired differences. `seeds` maps a trial that counts to its configuration and seed."""
    metrics = reader.metrics()
    of_trial = metrics[metrics["name"] == metric.name].groupby("trial_id")["value"]
    values: dict[str, dict[int, float]] = {}
    for trial_id, best in (of_trial.max() if metric.mode == "max" else of_trial.min()).items():
        if trial_id in seeds and np.isfinite(best):
            configuration, seed = seeds[str(trial_id)]
            values.setdefault(configuration, {})[seed] = float(best)
    differences = [[a[seed] - b[seed] for seed in a.keys() & b.keys()] for a, b in _pairs(values, metric.mode)]
    return power.pooled_spread(differences)


def _pairs(values: dict[str, dict[int, float]], mode: str) -> Sequence[tuple[dict[int, float], dict[int, float]]]:
    """The pairs of configurations that the report compares, as their values by seed."""
    best_first = sorted(values.values(), key=lambda of_seed: float(np.mean(list(of_seed.values()))), reverse=mode == "max")
    if len(best_first) <= power.ALL_PAIRS:
        return list(combinations(best_first, 2))
    return [(best_first[0], other) for other in best_first[1:]]
