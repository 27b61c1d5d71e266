"""W&B with a server: one W&B run per trial under the trial's own id. Each row is sent once."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddl.run_folder import WANDB_DRAFT
from ddl.tracking import connection
from ddl.tracking.follower_process import FollowerStatus
from ddl.tracking.records import WandbRecord


@dataclass
class _OpenRun:
    """A run that is being sent; `next_step` is the first step that the server does not have."""

    run: Any
    next_step: int
    record: WandbRecord


class OnlineRuns:
    """Sends the rows after the last step that the server has.

    A row is identified by trial and step. An interrupted trial trains the steps after its checkpoint again; the server keeps
    the values it received first for those steps.
    """

    def __init__(self, folder: Path, project: str, status: FollowerStatus, skip_complete: bool):
        """`folder` is the run's. `skip_complete`: do not ask the server about trials that were sent completely before."""
        self.root = folder.resolve() / "wandb"
        self.project = project
        self._status = status
        self.entity = ""
        """Owner of the project; "" until a run has begun."""
        self.where = self._server = connection.server()
        self._skip_complete = skip_complete
        self._sent = self.root / ".sent"
        self._draft = self.root.parent / WANDB_DRAFT
        self._open: dict[str, _OpenRun] = {}
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        self._sent.mkdir(exist_ok=True)

    def write(self, record: WandbRecord, final: bool) -> int:
        """Send a trial's new rows and return their number. Finishes the W&B run if the trial has ended or if `final`."""
        mark = self._sent / record.run_id
        fingerprint = f"{self._server} {self.project} {record.fingerprint()}" if record.ended else ""
        if self._skip_complete and fingerprint and mark.is_file() and mark.read_text() == fingerprint:
            return 0
        steps = record.steps
        if not record.ended:
            # The newest row may still grow: a trial's final metrics belong to its last step.
            steps = list(record.rows)[:-1]
            # The W&B run's name and tags name the data set, so it cannot begin before the metadata arrive.
            if not (steps or final or record.config["metadata"]):
                return 0
        open_run = self._begin(record)
        new = [step for step in steps if step >= open_run.next_step]
        for step in new:
            connection.log_row(open_run.run, record, step, last=record.ended and step == steps[-1])
            open_run.next_step = step + 1
        if record.ended or final:
            del self._open[record.trial_id]  # first, so that a run that cannot be finished is not finished again
            with self._status.request():
                connection.finish_wandb_run(open_run.run, record)
            if fingerprint:
                mark.write_text(fingerprint)
        return len(new)

    def _begin(self, record: WandbRecord) -> _OpenRun:
        open_run = self._open.get(record.trial_id)
        if open_run is None:
            with self._status.request():
                run = connection.begin_wandb_run(record, self.project, "online", self._draft)
            self.where, self.entity = run.project_url or self.where, run.entity
            open_run = self._open[record.trial_id] = _OpenRun(run, run.starting_step, record)
        open_run.record = record
        return open_run

    def reset(self) -> None:
        """Drop open runs after an error; the next `write` asks the server for its last step."""
        self._open.clear()

    def close(self) -> None:
        """Finish open runs as interrupted: a resume continues their trials."""
        while self._open:
            _, open_run = self._open.popitem()
            record = open_run.record
            with self._status.request():
                connection.finish_wandb_run(open_run.run, replace(record, summary=dict(record.summary) | {"status": "interrupted"}))
        shutil.rmtree(self._draft, ignore_errors=True)
