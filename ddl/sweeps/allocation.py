"""Allocation: the workers, CPU cores and GPUs of one trial, and how many trials run at once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddl.devices import Strategy
from ddl.schema import Launch
from ddl.sweeps.executors import Capacity
from ddl.sweeps.space import Trial
from ddl.sweeps.worker import Assignment


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
    """Divide `capacity` among `trials`. Requests that no node can fulfil are added to `problems`: Ray would wait for ever."""
    requested = launch.resources
    min_workers, max_workers = (1, 1) if inline else requested.workers
    check_inline(launch, inline, problems)

    gpus = float(min(capacity.node_gpus, 1)) if requested.gpus == "auto" else requested.gpus
    gpu_slots = _slots(capacity.gpus, capacity.node_gpus, capacity.nodes, gpus) if gpus else capacity.cpus
    if gpus:
        _check_request("gpus", gpus, capacity.node_gpus, gpu_slots, min_workers, problems)
    if gpus > 1 and gpus != int(gpus):
        problems.append(f"resources.gpus: {gpus:g} is not a whole number. Above 1, a worker gets whole GPUs. Write {math.ceil(gpus)}.")

    # A cluster may grow during the sweep, but the plan uses its current size.
    cpu_slots = capacity.cpus // (1 if requested.cpus == "auto" else requested.cpus)
    workers = max(min_workers, min(max_workers, gpu_slots, cpu_slots))
    concurrent = 1 if inline else max(1, min(trials, capacity.cpus // workers, gpu_slots // workers))

    if requested.cpus == "auto":
        workers_per_node = math.ceil(concurrent * workers / capacity.nodes)
        cpus = max(1, min(capacity.node_cpus // workers_per_node, capacity.cpus // (concurrent * workers)))
    else:
        cpus = requested.cpus
    cpu_slots = _slots(capacity.cpus, capacity.node_cpus, capacity.nodes, cpus)
    _check_request("cpus", cpus, capacity.node_cpus, cpu_slots, min_workers, problems)
    concurrent = max(1, min(concurrent, cpu_slots // workers))
    return Allocation(
        num_workers=max_workers, cpus=cpus, gpus=gpus, concurrent=concurrent, min_workers=min_workers, strategy=requested.strategy
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


def _check_request(key: str, amount: float, node_amount: int, slots: int, min_workers: int, problems: list[str]) -> None:
    if amount > node_amount:
        problems.append(f"resources.{key}: {amount:g} per worker, but no node has more than {node_amount}. Request at most {node_amount}.")
    elif slots < min_workers:
        problems.append(
            f"resources.num_workers: {min_workers} workers with {key}={amount:g} each, but only {slots} fit. Request fewer workers or {key}."
        )


def _slots(total: int, node: int, nodes: int, amount: float) -> int:
    """Number of workers that fit if each needs `amount`. A worker uses one node, and a fraction of a GPU is on one GPU."""
    if amount < 1:
        return total * int(1 / amount + 1e-9)
    return min(total // int(amount), nodes * (node // int(amount)))
