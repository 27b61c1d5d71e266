"""W&B with a server: one run a trial under its own id, each row sent once."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddl.tracking import connection
from ddl.tracking.follower import FollowerStatus
from ddl.tracking.records import WandbRecord


@dataclass
class _Open:
    """A run that is being sent; `next` is the first step that the server does not have."""

    run: Any
    next: int
    record: WandbRecord


class OnlineRuns:
    """Sends the rows above those that the server says it has.

    A row is known by its trial and step. A trial that was cut off trains its last steps again, from its checkpoint; the
    server keeps what it first had of those.
    """

    def __init__(self, folder: Path, project: str, news: FollowerStatus, trusting: bool):
        """`folder` is the run's. `trusting`: a trial that was once sent whole is not asked about again."""
        self.root = folder.resolve() / "wandb"
        self.project = project
        self._news = news
        self.entity = ""
        """Whose project it is, once a run is begun there."""
        self.where = self._server = connection.server()
        self._trusting = trusting
        self._sent = self.root / ".sent"
        self._draft = self.root / ".draft"
        self._open: dict[str, _Open] = {}
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        self._sent.mkdir(exist_ok=True)

    def write(self, record: WandbRecord, final: bool) -> int:
        """The number of rows sent. The run is finished at the server when the trial has ended, or where this is `final`."""
        mark = self._sent / record.run_id
        fingerprint = f"{self._server} {self.project} {record.fingerprint()}" if record.ended else ""
        if self._trusting and fingerprint and mark.is_file() and mark.read_text() == fingerprint:
            return 0
        steps = record.steps
        if not record.ended:
            # The newest row may still grow: a trial's last figures belong to its last step.
            steps = list(record.rows)[:-1]
            # It begins at the server once it is known what data it trains on, which its name and tags tell.
            if not (steps or final or record.config["metadata"]):
                return 0
        open_ = self._begin(record)
        new = [step for step in steps if step >= open_.next]
        for step in new:
            connection.log_row(open_.run, record, step, last=record.ended and step == steps[-1])
            open_.next = step + 1
        if record.ended or final:
            del self._open[record.trial_id]  # first: a run that can't be finished is not finished again
            with self._news.asking():
                connection.finish_wandb_run(open_.run, record)
            if fingerprint:
                mark.write_text(fingerprint)
        return len(new)

    def _begin(self, record: WandbRecord) -> _Open:
        open_ = self._open.get(record.trial_id)
        if open_ is None:
            with self._news.asking():
                run = connection.begin_wandb_run(record, self.project, "online", self._draft)
            self.where, self.entity = run.project_url or self.where, run.entity
            open_ = self._open[record.trial_id] = _Open(run, run.starting_step, record)
        open_.record = record
        return open_

    def forget(self) -> None:
        """Begin again after trouble: what is open is asked for anew."""
        self._open.clear()

    def close(self) -> None:
        """End what is open: trials that a resume will continue."""
        while self._open:
            _, open_ = self._open.popitem()
            record = open_.record
            with self._news.asking():
                connection.finish_wandb_run(open_.run, replace(record, summary=dict(record.summary) | {"status": "interrupted"}))
        shutil.rmtree(self._draft, ignore_errors=True)
