"""Data of a trial that W&B receives, as plain data: made from the ledger, without secrets or paths."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import ENDED, TrialRow
from ddl.redaction import Redactor
from ddl.run_folder import trial_files

FORMAT = 1  # version of the record; a higher number makes every trial be published again
TAG_LENGTH = JOB_TYPE_LENGTH = 64  # maximum length of a tag and of a job type in W&B, in characters
NAME_LENGTH = 128  # of the name of a run and of a group
SAMPLE_CHARACTERS = 100_000  # maximum length of a sample text; the rest is cut off
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
TEXTS = (".txt",)

Rows = dict[int, dict[str, float]]
"""Measurements by step, in ascending order: metrics by name, `epoch`, `elapsed_s`."""


@dataclass(frozen=True)
class WandbRecord:
    """Content of one W&B run, which is one trial.

    `run_id` depends only on the trial and its run, so publishing again updates the same W&B run. `figures` maps a file name
    without its suffix to the image file, `samples` to the text.
    """

    trial_id: str
    run_id: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    notes: str
    config: Mapping[str, Any]
    rows: Rows
    summary: Mapping[str, Any]
    figures: Mapping[str, Path]
    samples: Mapping[str, str]
    status: str

    @property
    def ended(self) -> bool:
        """True if the trial has finished, failed, diverged or was stopped."""
        return self.status in ENDED

    @property
    def steps(self) -> list[int]:
        """The steps of the rows; `[0]` for a trial that has figures or samples but no row."""
        return list(self.rows) or [0] * bool(self.figures or self.samples)

    @property
    def exit_code(self) -> int:
        """0 for finished and stopped trials; W&B shows all others as failed."""
        return 0 if self.status in ("finished", "stopped") else 1

    def fingerprint(self) -> str:
        """SHA-256 of everything that is published."""
        figures = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.figures.items()}
        header = [FORMAT, self.name, self.group, self.job_type, self.tags, self.notes]
        content = [self.config, list(self.rows.items()), self.summary, figures, *([dict(self.samples)] if self.samples else [])]
        return hashlib.sha256(json.dumps([header, content], sort_keys=True).encode()).hexdigest()


class LedgerReplay:
    """Incremental reader of a ledger. `poll` brings `trials` and `rows` up to date; `read` is the last sequence number read."""

    def __init__(self, folder: Path):
        """`folder` is the run's. Raises ValueError if it has no readable ledger."""
        self.folder = Path(folder)
        self.reader = LedgerReader(self.folder)
        self.run = self.reader.run("created", "sweep.name", "sweep.metric.name", "sweep.metric.mode")
        self.trials: list[TrialRow] = []
        self.rows: dict[str, Rows] = {}
        self.read = 0
        self._redactor = Redactor(self.folder)

    def poll(self) -> None:
        """Read the rows that are new in the ledger."""
        # Trials are read before measurements, so that all rows of an ended trial are read.
        trials = self.reader.trials()
        before = {trial.trial_id: trial.attempts for trial in self.trials}
        if any(trial.trial_id in self.rows and trial.attempts != before.get(trial.trial_id) for trial in trials):
            # A trial has restarted, which may have deleted rows from the ledger. Read everything again.
            self.rows, self.read = {}, 0
        self.trials = trials
        new = self.reader.metrics(after=self.read)
        for seq, trial_id, step, epoch, elapsed_s, name, value in new.itertuples(index=False):
            row = self.rows.setdefault(trial_id, {}).setdefault(int(step), {})
            row[name] = float(value)
            row["elapsed_s"] = float(elapsed_s)
            if not pd.isna(epoch):
                row["epoch"] = int(epoch)
            self.read = int(seq)

    def ended(self) -> bool:
        """True if the driver has marked the end since it last started."""
        marks = [kind for kind in self.reader.events()["kind"] if kind in ("resumed", "trained", "interrupted")]
        return bool(marks) and marks[-1] != "resumed"

    @property
    def group(self) -> str:
        """W&B group of this run's trials: the sweep, and the date and time of the run."""
        sweep, folder = self.run["sweep"]["name"], self.folder.resolve()
        return self._redactor.text(f"{sweep} {folder.parent.name if self._one_of_several() else folder.name}")[:NAME_LENGTH]

    def record(self, trial: TrialRow) -> WandbRecord:
        """The record of a trial, as of the last `poll`."""
        sweep = self.run["sweep"]
        metadata = dict(trial.metadata or {})
        kind, notes = _data_label(metadata.get("data") or {})
        rows = dict(sorted(self.rows.get(trial.trial_id, {}).items()))
        config = {
            "sweep": {key: sweep.get(key) for key in ("name", "title", "task", "metric", "keys")},
            "scale": self.run.get("scale", ""),
            "configuration": trial.configuration,
            "seed": trial.seed,
            "trial_id": trial.trial_id,
            "task": dict(trial.task),
            "metadata": {key: value for key, value in metadata.items() if key != "first_steps"},  # exact bits, for --reproduce only
            "versions": self.run.get("versions", {}),
            "commit": self.run.get("commit", ""),
        }
        for key, value in trial.swept.items():
            _set_nested(config, key, value)
        redact = self._redactor.value
        tags = (self.run.get("scale", ""), (metadata.get("data") or {}).get("name", ""), kind)
        return WandbRecord(
            trial_id=trial.trial_id,
            run_id=self._run_id(trial.trial_id),
            name=_shortened(redact(trial.configuration), f", seed {trial.seed}" + (f" [{kind}]" if kind else "")),
            group=self.group,
            job_type=redact(str(sweep.get("task", "")))[:JOB_TYPE_LENGTH],
            tags=tuple(dict.fromkeys(redact(str(tag))[:TAG_LENGTH] for tag in tags if tag)),
            notes=redact(notes),
            config=redact(config),
            rows=rows,
            summary=redact(_summary(trial, rows, sweep["metric"])),
            figures=_files_by_name(self.folder, trial.trial_id, "figures", IMAGES),
            samples={
                name: _truncate(redact(path.read_text(encoding="utf-8", errors="replace")))
                for name, path in _files_by_name(self.folder, trial.trial_id, "samples", TEXTS).items()
            },
            status=trial.status,
        )

    def _one_of_several(self) -> bool:
        """True if the run trains several sweeps: each then has a folder with its name."""
        return self.folder.resolve().name == self.run["sweep"]["name"]

    def _run_id(self, trial_id: str) -> str:
        # The resume command has the folder's first name: it distinguishes runs of the same second, and survives moving the run.
        # That of a run at a URL is the same for all its sweeps, which may have a trial in common.
        sweep = [self.run["sweep"]["name"]] if self.run.get("url") and self._one_of_several() else []
        identity = json.dumps([self.run["created"], self.run.get("resume", ""), *sweep, trial_id])
        return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _data_label(data: Mapping[str, Any]) -> tuple[str, str]:
    """(tag, note) on the data, in capitals unless they are the complete official data set; ("", "") if nothing is recorded."""
    if not data:
        return "", ""
    about = f"Data: {data.get('name', '')}, {data.get('source', '')}."
    if data.get("fallback_for"):
        return "FALLBACK DATA", f"{about} A FALLBACK, NOT {data['fallback_for']}."
    if not data.get("complete"):  # a missing entry counts as incomplete
        return "SAMPLE DATA", f"{about} ONLY A SAMPLE of the official data."
    return "", about


def _set_nested(config: dict[str, Any], key: str, value: Any) -> None:
    """Set key `a.b` as `config["a"]["b"]`, as W&B shows it."""
    *outer, last = key.split(".")
    for name in outer:
        inner = config.get(name)
        config[name] = config = dict(inner) if isinstance(inner, dict) else {}
    config[last] = value


def _summary(trial: TrialRow, rows: Rows, metric: Mapping[str, str]) -> dict[str, Any]:
    """The last value of each metric, the best value of the sweep's metric unless the trial diverged, and its status, reason and attempts."""
    final: dict[str, Any] = {}
    for row in rows.values():
        final |= row
    values = [row[metric["name"]] for row in rows.values() if metric["name"] in row]
    numbers = [value for value in values if value == value]
    if numbers and trial.status != "diverged":  # as in results.csv, whose best value must not be an early success
        final[f"best {metric['name']}"] = max(numbers) if metric["mode"] == "max" else min(numbers)
    return final | {"status": trial.status, "reason": trial.reason, "attempts": trial.attempts}


def _files_by_name(folder: Path, trial_id: str, subfolder: str, suffixes: Sequence[str]) -> dict[str, Path]:
    """Files of a trial with one of `suffixes`, by path relative to the subfolder without the suffix."""
    found: dict[str, Path] = {}
    for relative, path in trial_files(folder, trial_id, subfolder).items():
        if path.suffix.lower() in suffixes:
            # W&B reads a dot in a name as a level of nesting.
            name = Path(relative).with_suffix("").as_posix().replace(".", "_")
            found[name if name not in found else f"{name}_{path.suffix[1:]}"] = path
    return found


def _shortened(configuration: str, end: str) -> str:
    """The name of a W&B run. A sampled configuration names all its hyperparameters, which `config` has in full."""
    room = NAME_LENGTH - len(end)
    return (configuration if len(configuration) <= room else f"{configuration[: room - 3]}...") + end


def _truncate(text: str) -> str:
    """Cut a long text. Call it after redaction, which does not recognise half a secret."""
    return text if len(text) <= SAMPLE_CHARACTERS else f"{text[:SAMPLE_CHARACTERS]} ... (cut after {SAMPLE_CHARACTERS:,} characters)"
