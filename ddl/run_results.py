"""A run as its user gets it: its folder, and its results as data."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddl.ledger import FILE, LedgerReader, TrialRow

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A run's folder and its results. The folder of a run of several sweeps has one folder per sweep.

    not_uploaded: a line for each part of the run that its object store lacks.
    """

    folder: Path
    not_uploaded: tuple[str, ...] = ()

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def folders(self) -> list[Path]:
        """The folders with a ledger: the run's own, or one per sweep."""
        return [self.folder] if (self.folder / FILE).is_file() else sorted(path.parent for path in self.folder.glob(f"*/{FILE}"))

    @property
    def results(self) -> "pd.DataFrame":
        """One row per trial: trial_id, configuration, status, seed, each swept key, each final metric. Several sweeps are stacked."""
        import pandas as pd

        from ddl.reports import results

        frames = [results.read_results(folder) for folder in self.folders]
        return frames[0] if len(frames) == 1 else pd.concat(frames, keys=[folder.name for folder in self.folders], names=["sweep", None])

    @property
    def trials(self) -> list[TrialRow]:
        """All trials, in the order of the plan."""
        return [trial for folder in self.folders for trial in LedgerReader(folder).trials()]

    @property
    def failed(self) -> list[TrialRow]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.status == "failed"]
