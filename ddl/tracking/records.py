"""What W&B is to hold of a trial, as plain data, made from the ledger alone and without secrets or paths."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ddl.ledger import ENDED, LedgerReader, TrialRow
from ddl.tracking.privacy import Redactor

SHAPE = 1
"""Of a record; a higher number makes every trial be published anew."""

TAG_LENGTH = 64
"""W&B takes no longer tag."""

SAMPLE_CHARACTERS = 100_000
"""Of a sample text; more is cut off."""

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
TEXTS = (".txt",)

Rows = dict[int, dict[str, float]]
"""What was measured, by step, in the order of the steps: metrics by name, `epoch`, `elapsed_s`."""


@dataclass(frozen=True)
class WandbRecord:
    """One trial, one W&B run.

    `run_id` is the same for the same trial of the same run, whoever publishes it and whenever. `figures` maps a name
    without a suffix to an image file, `samples` to the text of one the trial has written.
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
        return self.status in ENDED

    @property
    def steps(self) -> list[int]:
        """The steps of its rows; where it has none but something to show, the one that this goes with."""
        return list(self.rows) or [0] * bool(self.figures or self.samples)

    @property
    def exit_code(self) -> int:
        """0 only for a trial that came to a good end, so W&B shows every other one as failed."""
        return 0 if self.status in ("finished", "stopped") else 1

    def fingerprint(self) -> str:
        """The sha256 of all that is published."""
        figures = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.figures.items()}
        heading = [SHAPE, self.name, self.group, self.job_type, self.tags, self.notes]
        content = [self.config, list(self.rows.items()), self.summary, figures, *([dict(self.samples)] if self.samples else [])]
        return hashlib.sha256(json.dumps([heading, content], sort_keys=True).encode()).hexdigest()


class LedgerReplay:
    """A ledger read bit by bit, by sequence number. After `poll`, `trials` and `rows` are as new as the ledger was."""

    def __init__(self, folder: Path):
        """`folder` is the run's. Raises ValueError where there is no readable ledger."""
        self.folder = Path(folder)
        self.reader = LedgerReader(self.folder)
        self.run = self.reader.run()
        self.trials: list[TrialRow] = []
        self.rows: dict[str, Rows] = {}
        self.read = 0
        self._redactor = Redactor(self.folder)

    def poll(self) -> None:
        # The trials before the measurements: those of a trial that has ended are then all there.
        trials = self.reader.trials()
        before = {trial.trial_id: trial.attempts for trial in self.trials}
        if any(trial.trial_id in self.rows and trial.attempts != before[trial.trial_id] for trial in trials):
            # A trial that began again: rows that were read may be gone from the ledger.
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

    def over(self) -> bool:
        """Whether the driver has marked the end of what it was last started for."""
        marks = [kind for kind in self.reader.events()["kind"] if kind in ("resumed", "trained", "interrupted")]
        return bool(marks) and marks[-1] != "resumed"

    @property
    def group(self) -> str:
        """What the trials of this run share in W&B."""
        return self._redactor.text(f"{self.run['sweep']['name']} {self.folder.resolve().name}")

    def record(self, trial: TrialRow) -> WandbRecord:
        """What W&B is to hold of this trial now."""
        sweep, folder = self.run["sweep"], self.folder.resolve()
        metadata = dict(trial.metadata or {})
        kind, notes = _data(metadata.get("data") or {})
        rows = dict(sorted(self.rows.get(trial.trial_id, {}).items()))
        config = {
            "sweep": {key: sweep.get(key) for key in ("name", "title", "task", "metric", "keys")},
            "scale": self.run.get("scale", ""),
            "configuration": trial.configuration,
            "seed": trial.seed,
            "trial_id": trial.trial_id,
            "task": dict(trial.task),
            "metadata": {key: fact for key, fact in metadata.items() if key != "first_steps"},  # bits: for --reproduce alone
            "versions": self.run.get("versions", {}),
            "commit": self.run.get("commit", ""),
        }
        for key, value in trial.swept.items():
            _assign(config, key, value)
        clean = self._redactor.value
        tags = (self.run.get("scale", ""), (metadata.get("data") or {}).get("name", ""), kind)
        return WandbRecord(
            trial_id=trial.trial_id,
            run_id=self._run_id(trial.trial_id),
            name=clean(f"{trial.configuration}, seed {trial.seed}" + (f" [{kind}]" if kind else "")),
            group=self.group,
            job_type=clean(str(sweep.get("task", ""))),
            tags=tuple(dict.fromkeys(clean(str(tag))[:TAG_LENGTH] for tag in tags if tag)),
            notes=clean(notes),
            config=clean(config),
            rows=rows,
            summary=clean(_summary(trial, rows, sweep["metric"])),
            figures=_named(folder / "trials" / trial.trial_id / "figures", IMAGES),
            samples={
                name: _cut(clean(path.read_text(encoding="utf-8", errors="replace")))
                for name, path in _named(folder / "trials" / trial.trial_id / "samples", TEXTS).items()
            },
            status=trial.status,
        )

    def _run_id(self, trial_id: str) -> str:
        # The folder as it was named at first tells runs of one second apart, and does not change when the run is moved.
        about = json.dumps([self.run["created"], self.run.get("resume", ""), trial_id])
        return hashlib.sha256(about.encode()).hexdigest()[:16]


def _data(data: Mapping[str, Any]) -> tuple[str, str]:
    """(tag, note) on the data: loud where they are not the real and whole thing, "" where nothing is known of them."""
    if not data:
        return "", ""
    about = f"Data: {data.get('name', '')}, {data.get('source', '')}."
    if data.get("fallback_for"):
        return "STAND-IN DATA", f"{about} THEY ONLY STAND IN for {data['fallback_for']}."
    if not data.get("complete"):  # what does not say that it is whole is not taken to be
        return "SAMPLE DATA", f"{about} ONLY A SAMPLE of the official data."
    return "", about


def _assign(config: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b` as W&B shows it: `config["a"]["b"]`."""
    *outer, last = key.split(".")
    for name in outer:
        inner = config.get(name)
        config[name] = config = dict(inner) if isinstance(inner, dict) else {}
    config[last] = value


def _summary(trial: TrialRow, rows: Rows, metric: Mapping[str, str]) -> dict[str, Any]:
    """The last value of each metric, the best of the sweep's own, and how the trial ended."""
    final: dict[str, Any] = {}
    for row in rows.values():
        final |= row
    values = [row[metric["name"]] for row in rows.values() if metric["name"] in row]
    numbers = [value for value in values if value == value]
    if numbers:
        final[f"best {metric['name']}"] = max(numbers) if metric["mode"] == "max" else min(numbers)
    return final | {"status": trial.status, "reason": trial.reason, "attempts": trial.attempts}


def _named(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The files with one of these suffixes, by their names without it."""
    found: dict[str, Path] = {}
    # A link could lead to any file of the machine.
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file() and not path.is_symlink()]
    for path in files:
        # W&B takes a dot in a name for a level of nesting.
        name = path.relative_to(folder).with_suffix("").as_posix().replace(".", "_")
        found[name if name not in found else f"{name}_{path.suffix[1:]}"] = path
    return found


def _cut(text: str) -> str:
    """After cleaning: half a secret would not be known for one."""
    return text if len(text) <= SAMPLE_CHARACTERS else f"{text[:SAMPLE_CHARACTERS]} ... (cut after {SAMPLE_CHARACTERS:,} characters)"
