"""W&B without a server: one complete folder per trial in RUN/wandb, in the format that W&B's own tools read."""

import shutil
from pathlib import Path
from typing import Any

from ddl.run_folder import WANDB_DRAFT
from ddl.tracking import connection
from ddl.tracking.follower_process import FollowerStatus
from ddl.tracking.records import WandbRecord

MARK = "ledger.sha256"  # file in a trial's folder with the fingerprint of the published record


class OfflineRuns:
    """Writes each trial's folder at once, and replaces an earlier folder of the trial.

    A trial is never written in parts: when W&B uploads several parts of one run, a later part erases an earlier one. Nor may
    `wandb sync` upload a trial's folder twice: the second upload appends all rows again. So a folder that replaces an uploaded
    one is marked as uploaded, and publishing online sends the remaining rows.
    """

    def __init__(self, folder: Path, project: str, status: FollowerStatus):
        """`folder` is the run's."""
        self.root = folder.resolve() / "wandb"
        self.project = project
        self._status = status
        self._draft = self.root.parent / WANDB_DRAFT

    entity = ""

    @property
    def where(self) -> str:
        """The folder with the trials' folders."""
        return str(self.root)

    def write(self, record: WandbRecord, final: bool) -> int:
        """Write a trial and return its number of rows, or 0 if its folder is up to date. Running trials are skipped unless `final`."""
        if not (record.ended or final):
            return 0
        earlier = sorted(self.root.glob(f"offline-run-*-{record.run_id}*"))
        fingerprint = record.fingerprint()
        if len(earlier) == 1 and _read_mark(earlier[0]) == fingerprint:
            return 0
        # Written to a draft folder and then renamed, so that an interrupted publish leaves no partial trial to upload.
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        with self._status.request():
            written = self._write_draft(record)
        (written / MARK).write_text(fingerprint)
        for number, folder in enumerate(earlier):
            for uploaded in folder.glob("*.synced"):
                shutil.copy(uploaded, written)
            folder.rename(self._draft / f"earlier-{number}")
        written.rename(self.root / written.name)
        shutil.rmtree(self._draft)
        return len(record.rows)

    def _write_draft(self, record: WandbRecord) -> Path:
        run: Any = connection.begin_wandb_run(record, self.project, "offline", self._draft)
        for step in record.steps:
            connection.log_row(run, record, step, last=step == record.steps[-1])
        connection.finish_wandb_run(run, record)
        folder = Path(run.settings.sync_dir)
        for name in ("logs", "tmp"):  # the client's own log contains paths
            shutil.rmtree(folder / name, ignore_errors=True)
        return folder

    def reset(self) -> None:
        """Drop open runs after an error: offline there are none."""

    def close(self) -> None:
        """Finish open runs: offline there are none."""


def _read_mark(folder: Path) -> str:
    try:
        return (folder / MARK).read_text()
    except FileNotFoundError:
        return ""
