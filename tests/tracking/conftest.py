"""Runs to publish: real ledgers with made-up metrics. Servers are on the loopback only."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import TrialRow
from tests.tracking.server import Server, black_hole, serving

from ..ledgers import ReportingLedger

SAMPLE = {"name": "cifar10", "source": "bundled sample", "complete": False, "fallback_for": "", "train": 512}
KEY = "k" * 40
NAMES = (
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "time/images_per_s",
    "time/evaluate_s",
    "device/cpu_utilisation_percent",
    "device/energy_wh",
    "latency/p50_ms",
    "latency/batch_64_p99_ms",
)
"""Metrics of `measure`, without `time/train_s`, which is reported at a trial's end."""


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test's own W&B settings and key, and no server: a closed port."""
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_ERROR_REPORTING"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """W&B's server, and a key for it."""
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server


@pytest.fixture
def hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that never answers, and a key for it."""
    with black_hole() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of a run that `create` makes."""
    return tmp_path / "runs" / "augmentation" / "2026-03-01-093000"


def create(folder: Path, trials: int = 2, **run: Any) -> Ledger:
    """A run whose trials, t0, t1, ..., are all planned. The caller closes it."""
    folder.mkdir(parents=True)
    rows = [
        TrialRow(f"t{n}", n, f"strength {n}", {"task.augmentation": f"a{n}"}, {"lr": 0.1, "augmentation": f"a{n}", "widths": [32, 64]}, 7)
        for n in range(trials)
    ]
    about = {
        "sweep": {
            "name": "augmentation", "title": "Augmentation", "task": "classification",
            "metric": {"name": "val/accuracy", "mode": "max"}, "keys": ["task.augmentation"],
        },
        "scale": "smoke", "created": "2026-03-01T09:30:00+0000", "commit": "0123456789abcdef",
        "resume": f"python launch.py --resume {folder}", "command": "python launch.py --sweep augmentation",
        "versions": {"python": "3.11.7"}, "launch": {"wandb": {"mode": "auto", "project": "trials-of-ours"}},
    }  # fmt: skip
    return ReportingLedger.create(folder, about | run, rows)


def measure(ledger: Ledger, trial_id: str, epochs: Sequence[int], metadata: Mapping[str, Any] | None = None, bias: float = 0.0) -> None:
    for epoch in epochs:
        values = {name: epoch + place / 16 + bias for place, name in enumerate(NAMES)}
        ledger.measured(trial_id, epoch * 10, epoch, epoch * 1.5, values, {"data": SAMPLE, **(metadata or {})} if epoch == 0 else {})


def whole(ledger: Ledger, trial_id: str, epochs: int = 3, status: str = "finished", reason: str = "", **options: Any) -> None:
    """A trial from its start to its end."""
    ledger.started(trial_id, 0, "somewhere cpu")
    measure(ledger, trial_id, range(epochs), **options)
    last = epochs - 1
    ledger.measured(trial_id, last * 10, last, last * 1.5, {"time/train_s": last * 1.5}, {})
    ledger.ended(trial_id, status, reason)


def picture(folder: Path, trial_id: str, name: str = "kernels.png") -> Path:
    path = folder / "trials" / trial_id / "figures" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), "teal").save(path)
    return path


def sample(folder: Path, trial_id: str, name: str, text: str) -> Path:
    path = folder / "trials" / trial_id / "samples" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


Rows = dict[str, list[tuple[int, str, float]]]


def in_ledger(folder: Path) -> Rows:
    """(step, metric, value) of each trial, sorted: what W&B must hold, each once."""
    rows: Rows = {}
    for row in LedgerReader(folder).metrics().itertuples():
        rows.setdefault(row.trial_id, []).append((row.step, row.name, row.value))
    return {trial_id: sorted(values) for trial_id, values in rows.items()}


def of_history(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, str, float]]:
    """The same of rows as W&B has them."""
    return sorted((row["_step"], name, value) for row in history for name, value in row.items() if name in (*NAMES, "time/train_s"))
