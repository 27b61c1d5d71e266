"""A run as its user gets it: its folder, and its results as data."""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddl.ledger_reader import LedgerReader, ledger_path
from ddl.ledger_tables import TrialRow
from ddl.run_folder import folders_with_ledger

if TYPE_CHECKING:
    import pandas as pd

    from ddl.reports.model import RunReport


@dataclass(frozen=True)
class BestConfiguration:
    """The configuration that the report names first.

    hyperparameters: those that vary in the sweep, as `task.NAME`; after population based training the values that the best trial ended with.
    measure: what the report leads with, as in "best val/accuracy" (the best of a trial's measurements) or "last val/accuracy". mean: over
    the `n` seeds; low, high: its 95% interval, None with one seed. trials: the ids of the n trials in the mean, the best first.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    measure: str
    mean: float
    low: float | None
    high: float | None
    n: int
    trials: tuple[str, ...]


@dataclass(frozen=True, init=False)
class Run:
    """A run's folder and its results. The folder of a run of several sweeps has one folder per sweep.

    not_uploaded: a line for each part of the run that its object store lacks. Whatever is read raises ValueError if the folder has no run.
    """

    folder: Path
    not_uploaded: tuple[str, ...]

    def __init__(self, folder: Path | str, not_uploaded: tuple[str, ...] = ()):
        object.__setattr__(self, "folder", Path(folder))
        object.__setattr__(self, "not_uploaded", not_uploaded)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def folders(self) -> list[Path]:
        """The folders with a ledger: the run's own, or one per sweep."""
        found = folders_with_ledger(self.folder)
        if not found:
            ledger_path(self.folder)  # raises ValueError with what to do
        return found

    @property
    def results(self) -> "pd.DataFrame":
        """One row per trial: trial_id, configuration, status, seed, each swept key, each final metric (`ddl.reports.results`).

        As the other tables, it has a further index level `sweep` if the run has several sweeps.
        """
        return self._stacked(lambda report: report.frame)

    @property
    def curves(self) -> "pd.DataFrame":
        """One row per measured value: trial_id, configuration, seed, step, epoch (NaN without epochs), elapsed_s, metric, value."""
        return self._stacked(_curves)

    @property
    def comparisons(self) -> "pd.DataFrame":
        """One row per pair of configurations: paired differences over their common seeds, as in the report.

        Columns: first, second; measure; difference (mean of first minus second), low, high (its 95% interval), n (common seeds); p
        (paired t test, Holm-corrected), significant; untested (the reason if there is no test).
        """
        return self._stacked(_comparisons)

    @property
    def best(self) -> BestConfiguration:
        """The best configuration. Raises ValueError if no trial has a value yet, and for a run of several sweeps."""
        from ddl.reports.model import build_report

        if len(self.folders) != 1:
            raise ValueError(f"{self.folder}: has several sweeps. Take one of them: Run(FOLDER).best.")
        (report,) = build_report(self.folders).runs
        if not report.best_first:
            raise ValueError(f"{self.folder}: no trial has measured {report.metric} yet.")
        best = report.best_first[0]
        values, estimate = best.values[report.primary], best.estimates[report.primary]
        assert estimate.mean is not None
        ids = {trial.seed: trial.trial_id for trial in report.trials if trial.configuration == best.name}
        trials = tuple(ids[seed] for seed in sorted(values, key=values.__getitem__, reverse=report.primary_mode == "max"))
        given = best.swept
        if report.record.get("population"):
            (first,) = [trial for trial in report.trials if trial.trial_id == trials[0]]
            given = {key: first.hyperparameters(report.record)[key.removeprefix("task.")] for key in best.swept}
        return BestConfiguration(best.name, given, report.primary, estimate.mean, estimate.low, estimate.high, estimate.n, trials)

    def _repr_html_(self) -> str:
        """The report, as a notebook shows it: a frame with the page."""
        page = html.escape(self.report.read_text(encoding="utf-8"))
        frame = f'<iframe srcdoc="{page}" sandbox="allow-scripts" style="width: 100%; height: 40em; border: 0"></iframe>'
        return f"{frame}<p>{html.escape(str(self.report))}</p>"

    def _stacked(self, table: Callable[["RunReport"], "pd.DataFrame"]) -> "pd.DataFrame":
        import pandas as pd

        from ddl.reports.model import build_report

        frames = [table(report) for report in build_report(self.folders).runs]
        return frames[0] if len(frames) == 1 else pd.concat(frames, keys=[folder.name for folder in self.folders], names=["sweep", None])

    @property
    def trials(self) -> list[TrialRow]:
        """All trials, in the order of the plan."""
        return [trial for folder in self.folders for trial in LedgerReader(folder).trials()]

    @property
    def failed(self) -> list[TrialRow]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.status == "failed"]


def _curves(report: "RunReport") -> "pd.DataFrame":
    trials = report.frame[["trial_id", "configuration", "seed"]]
    columns = ["trial_id", "configuration", "seed", "step", "epoch", "elapsed_s", "metric", "value"]
    return report.metrics.rename(columns={"name": "metric"}).merge(trials, on="trial_id")[columns]


def _comparisons(report: "RunReport") -> "pd.DataFrame":
    import pandas as pd

    rows = [
        {
            "first": pair.first,
            "second": pair.second,
            "measure": measure,
            "difference": pair.difference.mean,
            "low": pair.difference.low,
            "high": pair.difference.high,
            "n": pair.difference.n,
            "p": pair.p_holm,
            "significant": pair.significant,
            "untested": pair.untested,
        }
        for measure, pairs in report.comparisons.items()
        for pair in pairs
    ]
    return pd.DataFrame(rows, columns=["first", "second", "measure", "difference", "low", "high", "n", "p", "significant", "untested"])
