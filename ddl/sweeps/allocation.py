"""Allocation: the workers, CPU cores and GPUs of one trial, and how many trials run at once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddl.schema import Launch
from ddl.strategy import Strategy
from ddl.sweeps.assignment import Assignment
from ddl.sweeps.capacity import Capacity
from ddl.sweeps.space import Trial

CORES_WITH_A_GPU = 4
"""Cores of a worker on a GPU, at most: its cores only prepare work for the GPU. The others are left to trials on the CPU."""


@dataclass(frozen=True)
class Allocation:
    """Resources of one trial, and the number of trials that run at once (`concurrent`).

    `cpus` and `gpus` are per worker. A trial starts, or restarts, with as many workers as fit: `min_workers` to `num_workers`.
    """

    num_workers: int
    cpus: int
    gpus: float
    concurrent: int
    min_workers: int
    strategy: Strategy

    @property
    def size(self) -> str:
        """Resources of one worker as text."""
        return _size(self.cpus, self.gpus)

    @property
    def in_use(self) -> tuple[int, float]:
        """CPU cores and GPUs of all trials that run at once, at most."""
        workers = self.concurrent * self.num_workers
        return workers * self.cpus, workers * self.gpus

    def assignment(self, trial: Trial, folder: Path, checkpoint_every_s: float, **optional: Any) -> Assignment:
        """The trial with this allocation and its files in `folder`. `optional` are further fields of `Assignment`."""
        return Assignment(
            trial_id=trial.trial_id,
            task=trial.task,
            num_workers=self.num_workers,
            cpus=self.cpus,
            gpus=self.gpus,
            folder=folder,
            checkpoint_every_s=checkpoint_every_s,
            min_workers=self.min_workers,
            strategy=self.strategy,
            **optional,
        )


def recorded_allocation(plan: Mapping[str, Any]) -> Allocation:
    """The allocation of a plan in the ledger (`Plan.record`)."""
    same = {key: plan[key] for key in ("num_workers", "min_workers", "strategy", "concurrent")}
    return Allocation(cpus=plan["cpus_per_trial"], gpus=plan["gpus_per_trial"], **same)


def allocate(launch: Launch, capacity: Capacity, trials: int, inline: bool, problems: list[str]) -> Allocation:
    """Divide `capacity` among `trials`. Requests that no node can fulfil are added to `problems`: Ray would wait for ever.

    With `cpus: auto`, a worker gets as many cores as leave room for all workers that could run at once. Only nodes that can hold
    a worker count, so a node with many cores and no GPU does not enlarge the allocation of a trial on GPUs.
    """
    requested = launch.resources
    fewest, most = (1, 1) if inline else requested.workers
    check_inline(launch, inline, problems)
    gpus = float(min(capacity.gpus, 1)) if requested.gpus == "auto" else float(requested.gpus)

    # A cluster may grow during the sweep, but the plan uses its current size.
    slots = capacity.slots(1 if requested.cpus == "auto" else requested.cpus, gpus)
    workers = max(fewest, min(most, slots))
    concurrent = 1 if inline else max(1, min(trials, slots // workers))
    cpus = _most_cores(capacity, concurrent * workers, gpus) if requested.cpus == "auto" else requested.cpus
    _check_request(capacity, cpus, gpus, fewest, problems)
    return Allocation(num_workers=most, cpus=cpus, gpus=gpus, concurrent=concurrent, min_workers=fewest, strategy=requested.strategy)


def reallocate(recorded: Allocation, launch: Launch, capacity: Capacity, trials: int, inline: bool, problems: list[str]) -> Allocation:
    """The allocation of a resumed run: as recorded if a trial still fits, so that the same number of threads gives the same numbers."""
    fewest, most = (1, 1) if inline else (recorded.min_workers, recorded.num_workers)
    slots = capacity.slots(recorded.cpus, recorded.gpus)
    if slots < fewest:
        return allocate(launch, capacity, trials, inline, problems)
    concurrent = 1 if inline else max(1, min(trials, slots // max(fewest, min(most, slots))))
    return replace(recorded, num_workers=most, min_workers=fewest, concurrent=concurrent)


def _most_cores(capacity: Capacity, workers: int, gpus: float) -> int:
    """The largest number of cores per worker with which `workers` workers fit."""
    most = max((node.cpus for node in capacity.nodes), default=1)
    if gpus:
        most = min(most, CORES_WITH_A_GPU)
    return next((cpus for cpus in range(most, 1, -1) if capacity.slots(cpus, gpus) >= workers), 1)


def check_gpus(launch: Launch, problems: list[str]) -> None:
    """Add GPUs per worker to `problems` that a worker could not use: it trains on one GPU, and NCCL refuses two workers on the same."""
    gpus, (_, most) = launch.resources.gpus, launch.resources.workers
    if gpus == "auto":
        return
    if gpus > 1:
        problems.append(
            f"resources.gpus: {gpus:g} per worker, but a worker trains on one GPU. For a trial on {math.ceil(gpus)} GPUs, set "
            f"resources.num_workers={math.ceil(gpus)} and resources.gpus=1."
        )
    elif 0 < gpus < 1 and most > 1:
        problems.append(
            f"resources.gpus: {gpus:g} per worker would put several workers of a trial on one GPU, which NCCL refuses. "
            "Set it to 1, or resources.num_workers to 1."
        )


def check_inline(launch: Launch, inline: bool, problems: list[str]) -> None:
    """Add settings that need several processes to `problems` if the executor is `inline`."""
    if not inline:
        return
    if (workers := launch.resources.workers[0]) > 1:
        problems.append(f"resources.num_workers: {workers} workers need --executor ray; inline is one process. Set it to 1.")
    if launch.search.algorithm == "pbt":
        problems.append("search.algorithm: pbt compares trials that run in parallel. Use --executor ray, or set it to random or tpe.")
    if (scheduler := launch.early_stopping.scheduler) != "none":
        problems.append(
            f"early_stopping.scheduler: {scheduler} compares trials that run in parallel. Use --executor ray, or set it to none."
        )


def _check_request(capacity: Capacity, cpus: int, gpus: float, fewest: int, problems: list[str]) -> None:
    """Add the reason to `problems` if `fewest` workers of this size do not fit."""
    node_cpus, node_gpus = (max((getattr(node, kind) for node in capacity.nodes), default=0) for kind in ("cpus", "gpus"))
    slots = capacity.slots(cpus, gpus)
    if gpus > node_gpus:
        reasons = " ".join(["", *capacity.unusable_gpus])
        problems.append(
            f"resources.gpus: {gpus:g} per worker, but no node has more than {node_gpus}.{reasons} "
            + (f"Request at most {node_gpus}." if node_gpus else "Set it to 0 to train on the CPU.")
        )
    if cpus > node_cpus:
        problems.append(f"resources.cpus: {cpus} per worker, but no node has more than {node_cpus}. Request at most {node_cpus}.")
    if cpus > node_cpus or gpus > node_gpus or slots >= fewest:
        return
    size = _size(cpus, gpus)
    if slots:
        problems.append(
            f"resources.num_workers: {fewest} workers with {size} each, but only {slots} fit. Request fewer workers, or less for each."
        )
    else:
        most = max(node.cpus for node in capacity.nodes if node.gpus)
        problems.append(f"resources.cpus: {size} per worker, but nodes with a GPU have at most {most} cores. Request at most {most}.")


def _size(cpus: int, gpus: float) -> str:
    return f"cpus={cpus}" + (f" and gpus={gpus:g}" if gpus else "")
