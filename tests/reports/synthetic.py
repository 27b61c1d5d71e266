"""Synthetic runs for the report: real ledgers with seeded, invented values. Their names contain "synthetic"."""

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddl.ledger_tables import TrialRow
from tests.ledgers import edited_ledger

from ..ledgers import ReportingLedger

GENUINE = {
    "name": "CIFAR-10", "source": "official host", "complete": True, "fallback_for": "", "sha256": "5f" * 32,
    "train": 50000, "val": 10000,
}  # fmt: skip
SAMPLE = GENUINE | {"source": "bundled sample", "complete": False, "train": 5000, "val": 1000}

MakeRun = Callable[..., Path]
"""`create` without its first argument."""


def create(
    folder: Path,
    final: Mapping[str, float],
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 12,
    scale: str = "paper",
    spread: float = 0.004,
    data: Mapping[str, Any] = GENUINE,
    reference: Mapping[str, Any] | None = None,
    endings: Mapping[tuple[str, int], tuple[str, str]] | None = None,
    swept: Mapping[str, Mapping[str, Any]] | None = None,
    alter: Callable[[str, int, int, dict[str, float]], dict[str, float]] = lambda configuration, seed, epoch, metrics: metrics,
    forced: Sequence[str] = (),
    **run: Any,
) -> Path:
    """A run whose configurations end near `final` val/accuracy.

    `swept` gives the hyperparameters of a configuration whose name is not its only value. `endings` maps (configuration, seed) to a status
    other than "finished" and its reason: "planned" measures nothing, the others get half the epochs. `alter` may change the metrics.
    """
    folder.mkdir(parents=True)
    trials = [
        TrialRow(f"{position:04d}-synthetic", position, name, swept[name] if swept else {"task.augmentation": name}, {"seed": seed}, seed)
        for position, (name, seed) in enumerate((name, seed) for name in final for seed in seeds)
    ]
    described = {
        "sweep": {
            "name": "augmentation", "title": "Augmentation strength on CIFAR-10 (synthetic)", "task": "classification",
            "metric": {"name": "val/accuracy", "mode": "max"}, "seeds": len(seeds), "keys": list(trials[0].swept),
            "forced": list(forced), "reference": reference,
        },
        "scale": scale,
        "command": f"python launch.py --sweep augmentation --scale {scale}",
        "resume": "python launch.py --resume runs/augmentation/synthetic",
        "created": "2026-03-01T09:30:00+00:00",
        "versions": {"python": "3.11.7", "torch": "2.9.1", "ray": "2.60.0", "ddl": "0.1.0"},
        "commit": "0123456789abcdef (dirty)",
        "host": {"cpu": "Synthetic CPU", "cores": 2, "memory_gb": 8.0, "gpus": [], "os": "Linux"},
        "plan": {
            "executor": "ray", "trials": len(trials), "concurrent": 2, "cpus_per_trial": 1, "gpus_per_trial": 0,
            "eta_s": 570.0, "disk_bytes": 1.5e8,
            "probes": [{"configuration": n, "steps_per_s": 41.5, "precision": "bf16", "seconds_per_trial": 63.0} for n in final],
        },
    } | run  # fmt: skip
    with ReportingLedger.create(folder, described, trials) as ledger:
        for trial in trials:
            status, reason = (endings or {}).get((trial.configuration, trial.seed), ("finished", ""))
            if status == "planned":
                continue
            ledger.started(trial.trial_id, 0, "synthetic-host cpu")
            reached = epochs if status == "finished" else max(1, epochs // 2)
            noise = np.random.default_rng([trial.position, 7])
            ceiling = final[trial.configuration] + spread * noise.standard_normal()
            metadata = {"data": dict(data), "parameters": 356810, "precision": "bf16 channels_last"}
            for epoch in range(1, reached + 1):
                measured = alter(trial.configuration, trial.seed, epoch, _metrics(ceiling, epoch, epochs, noise))
                ledger.measured(trial.trial_id, epoch * 98, epoch, 5.2 * epoch, measured, metadata if epoch == 1 else {})
            if status != "running":
                ledger.ended(trial.trial_id, status, reason)
    return folder


def leave(folder: Path, trial_id: str, name: str, content: bytes) -> None:
    """Write a file as a trial does: a text to samples/, any other file to figures/."""
    subfolder = folder / "trials" / trial_id / ("samples" if name.endswith(".txt") else "figures")
    subfolder.mkdir(parents=True, exist_ok=True)
    (subfolder / name).write_bytes(content)


@cache
def png(side: int, seed: int = 0) -> bytes:
    """A square of noise, which does not compress: about 3 side² bytes."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def create_many(folder: Path, configurations: int = 200, seeds: int = 5, epochs: int = 40, images: bool = False) -> Path:
    """Finished trials with four metrics per epoch; with `images`, each has four of 4 kB and a text."""
    folder.mkdir(parents=True)
    swept = [
        {"task.lr": 10 ** -(1 + i % 5), "task.hidden": 16 << i // 5 % 5, "task.momentum": i % 3 / 2, "task.kernel": "abc"[i % 3]}
        for i in range(configurations)
    ]
    trials = [
        TrialRow(f"{i:04d}-synthetic", i, f"configuration {i // seeds:03d}", swept[i // seeds], {}, i % seeds)
        for i in range(configurations * seeds)
    ]
    sweep = {
        "name": "lr",
        "title": f"{len(trials):,} trials (synthetic)",
        "metric": {"name": "val/accuracy", "mode": "max"},
        "keys": list(swept[0]),
    }
    with ReportingLedger.create(folder, {"sweep": sweep, "scale": "paper"}, trials):
        pass
    # Written to the tables directly: the ledger would sync each measurement to disk.
    with edited_ledger(folder) as db:
        names = ("train/loss", "val/loss", "train/accuracy", "val/accuracy")
        db.executemany(
            "INSERT INTO metrics (trial_id, step, epoch, elapsed_s, name, value) VALUES (?, ?, ?, ?, ?, ?)",
            (
                (t.trial_id, e * 98, e, (5.0 + t.position % 7) * e, name, 0.1 + 0.8 * e / epochs + (t.position * 7919 % 1000) / 5000)
                for t in trials for e in range(1, epochs + 1) for name in names
            ),
        )  # fmt: skip
        db.execute("UPDATE trials SET status = 'finished', metadata = ?", (json.dumps({"data": GENUINE, "parameters": 356810}),))
    for trial in trials if images else ():
        for epoch in range(1, 5):
            leave(folder, trial.trial_id, f"digits-{epoch:03d}.png", png(36, epoch))
        leave(folder, trial.trial_id, "story.txt", b"Once upon a time. " * 300)
    return folder


def create_agents(folder: Path, unsolved: tuple[str, int] | None = ("slow", 1)) -> Path:
    """A run of two agents with 8 seeds each that count env steps and episodes; all but `unsolved` solve the task."""
    folder.mkdir(parents=True)
    names = ("fast", "slow")
    trials = [
        TrialRow(f"{name}-{seed}", i * 8 + seed, name, {"task.agent": name}, {}, seed) for i, name in enumerate(names) for seed in range(8)
    ]
    described = {"sweep": {"name": "cartpole", "title": "Agents (synthetic)", "metric": {"name": "val/episode_return", "mode": "max"},
                           "keys": ["task.agent"]}, "scale": "sample"}  # fmt: skip
    with ReportingLedger.create(folder, described, trials) as ledger:
        for trial in trials:
            ledger.started(trial.trial_id, 0, "synthetic-host cpu")
            slow = trial.configuration == "slow"
            for k in range(1, 6):
                steps, episodes = 1000 * k, (40 if slow else 20) * k + trial.seed
                solved = k >= (4 if slow else 2) and (trial.configuration, trial.seed) != unsolved
                metrics = {
                    "train/env_steps": float(steps), "train/episodes": float(episodes), "val/solved": float(solved),
                    "train/episode_return": 60.0 * k + 3 * trial.seed - 20 * slow, "val/episode_return": 90.0 * k + trial.seed,
                    "time/env_steps_per_s": 9000.0 - 500 * slow + trial.seed,
                }  # fmt: skip
                if solved:
                    at = 4 if slow else 2
                    metrics |= {"train/episodes_to_solved": (40.0 if slow else 20.0) * at + trial.seed, "time/solved_s": 0.5 * at}
                ledger.measured(trial.trial_id, steps, None, 0.5 * k, metrics, {"parameters": 450} if k == 1 else {})
            ledger.ended(trial.trial_id, "finished", step=5000, elapsed_s=2.6 + 0.1 * slow, metrics={"test/episode_return": 450.0})
    return folder


def _metrics(ceiling: float, epoch: int, epochs: int, noise: np.random.Generator) -> dict[str, float]:
    grown = 1 - math.exp(-4 * epoch / epochs)
    accuracy = 0.1 + (ceiling - 0.1) * grown + 0.002 * noise.standard_normal()
    return {
        "train/loss": 2.3 - 1.9 * grown + 0.01 * noise.standard_normal(),
        "train/accuracy": min(0.999, accuracy * (1 + 0.1 * grown)),
        "val/loss": 2.3 - 1.6 * grown + 0.25 * grown**4 + 0.02 * noise.standard_normal(),
        "val/accuracy": accuracy,
        "time/train_s": 4.9,
        "time/images_per_s": 9600 + 50 * noise.standard_normal(),
        "time/latency_p50_ms": 0.42 + 0.01 * noise.standard_normal(),
        "device/cpu_utilisation_percent": 96.0,
    }
