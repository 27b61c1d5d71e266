"""W&B without a server: one complete folder a trial in RUN/wandb, as W&B's own tools read them."""

import shutil
from pathlib import Path
from typing import Any

from ddl.tracking import connection
from ddl.tracking.follower import FollowerStatus
from ddl.tracking.records import WandbRecord

MARK = "ledger.sha256"
"""In a trial's folder: the fingerprint of what it holds."""


class OfflineRuns:
    """Writes a trial's folder in one go and puts it in place of an earlier one.

    Pieces, each continuing the one before, would not do: when W&B uploads them, a later one erases an earlier. Neither
    may `wandb sync` upload a trial's folder twice: the second time it puts all rows behind the first ones. So a folder
    in place of one that it has uploaded counts as uploaded, and publishing online sends the rest.
    """

    def __init__(self, folder: Path, project: str, news: FollowerStatus):
        """`folder` is the run's."""
        self.root = folder.resolve() / "wandb"
        self.project = project
        self._news = news
        self._draft = self.root / ".draft"

    entity = ""

    @property
    def where(self) -> str:
        return str(self.root)

    def write(self, record: WandbRecord, final: bool) -> int:
        """The number of rows written; 0 where the folder holds them already. A trial that has not ended waits if not `final`."""
        if not (record.ended or final):
            return 0
        earlier = sorted(self.root.glob(f"offline-run-*-{record.run_id}*"))
        fingerprint = record.fingerprint()
        if len(earlier) == 1 and _mark(earlier[0]) == fingerprint:
            return 0
        # Made aside and moved when it is whole: who is cut off leaves no half of a trial to be uploaded.
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        with self._news.asking():
            made = self._make(record)
        (made / MARK).write_text(fingerprint)
        for number, folder in enumerate(earlier):
            for uploaded in folder.glob("*.synced"):
                shutil.copy(uploaded, made)
            folder.rename(self._draft / f"earlier-{number}")
        made.rename(self.root / made.name)
        shutil.rmtree(self._draft)
        return len(record.rows)

    def _make(self, record: WandbRecord) -> Path:
        run: Any = connection.begin_wandb_run(record, self.project, "offline", self._draft)
        for step in record.steps:
            connection.log_row(run, record, step, last=step == record.steps[-1])
        connection.finish_wandb_run(run, record)
        made = Path(run.settings.sync_dir)
        for name in ("logs", "tmp"):  # the client's own log names folders
            shutil.rmtree(made / name, ignore_errors=True)
        return made

    def forget(self) -> None:
        """Begin again after trouble; every trial is written in one go, so nothing is left over."""

    def close(self) -> None:
        """End what is open: nothing."""


def _mark(folder: Path) -> str:
    try:
        return (folder / MARK).read_text()
    except FileNotFoundError:
        return ""
