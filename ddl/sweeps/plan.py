"""What will run, on what, for how long: worked out before anything starts."""

import heapq
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddl import checkpoints
from ddl.devices import Strategy
from ddl.precision import TimingProbe
from ddl.schema import Launch
from ddl.sweeps.executors import Capacity, Executor
from ddl.sweeps.space import Trial
from ddl.sweeps.worker import Assignment

MAX_PROBED = 8
"""Configurations timed at most; the others are taken to last as long as these on average."""

MAX_ON_A_GPU = 8

MEMORY_SPARE = 0.1
"""Of a GPU's memory, which no plan gives away: a probe's few steps are not a trial's worst moment."""

BYTES_PER_PARAMETER = 12
"""Of a checkpoint: fp32 weights and Adam's two moments."""


@dataclass(frozen=True)
class Allocation:
    """What one trial gets (`cpus` and `gpus` for each of its `num_workers`), and how many trials run at once.

    From `min_workers` to `num_workers`, as many as there is room for when it starts or starts again.
    """

    num_workers: int
    cpus: int
    gpus: float
    concurrent: int
    min_workers: int
    strategy: Strategy

    def assignment(self, trial: Trial, folder: Path, checkpoint_every_s: float, latency: str = "none") -> Assignment:
        """The trial with its share, its files in `folder`."""
        return Assignment(
            trial.trial_id,
            trial.task,
            self.num_workers,
            self.cpus,
            self.gpus,
            folder,
            checkpoint_every_s,
            self.min_workers,
            self.strategy,
            latency=latency,
        )


@dataclass(frozen=True)
class Plan:
    """`eta_s`: seconds from the first trial's start to the last one's end. `probes`: by configuration, in the chosen precision;
    `mean_s` is a trial's mean over them."""

    allocation: Allocation
    capacity: Capacity
    precision: str
    probes: Mapping[str, TimingProbe]
    mean_s: float
    eta_s: float
    disk_bytes: int
    free_bytes: int

    def seconds(self, trial: Trial) -> float:
        """How long it is expected to last."""
        probe = self.probes.get(trial.configuration)
        return self.mean_s if probe is None else probe.trial_s

    def record(self, executor: str, trials: int) -> dict[str, Any]:
        """As the ledger keeps it."""
        return {
            "executor": executor,
            "trials": trials,
            "concurrent": self.allocation.concurrent,
            "num_workers": self.allocation.num_workers,
            "min_workers": self.allocation.min_workers,
            "strategy": self.allocation.strategy,
            "cpus_per_trial": self.allocation.cpus,
            "gpus_per_trial": self.allocation.gpus,
            "nodes": self.capacity.nodes,
            "cpus": self.capacity.cpus,
            "gpus": self.capacity.gpus,
            "precision": self.precision,
            "eta_s": None if math.isnan(self.eta_s) else self.eta_s,
            "disk_bytes": self.disk_bytes,
            "probes": [
                {
                    "configuration": name,
                    "precision": probe.precision,
                    "steps_per_s": 1 / probe.step_s if probe.step_s else None,
                    "seconds_per_trial": probe.trial_s,
                    "deviation": probe.deviation,
                }
                for name, probe in self.probes.items()
            ],
        }


def recorded_allocation(plan: Mapping[str, Any]) -> Allocation:
    """The share of a plan that the ledger kept (`Plan.record`)."""
    return Allocation(
        plan["num_workers"],
        plan["cpus_per_trial"],
        plan["gpus_per_trial"],
        plan["concurrent"],
        plan["min_workers"],
        plan["strategy"],
    )


def allocate(launch: Launch, capacity: Capacity, trials: int, inline: bool, problems: list[str]) -> Allocation:
    """Each trial's allocation of `capacity`. A request that no node can ever fulfil goes into `problems`: Ray would wait for ever."""
    asked = launch.resources
    fewest, most = asked.workers if not inline else (1, 1)
    check_inline(launch, inline, problems)
    gpus = asked.gpus if asked.gpus != "auto" else float(min(capacity.node_gpus, 1))
    if gpus > capacity.node_gpus:
        problems.append(f"resources.gpus: {gpus:g} asked for a worker, but no node has more than {capacity.node_gpus}. Ask for less.")
    elif gpus and (room := _room(capacity.gpus, capacity.node_gpus, capacity.nodes, gpus)) < fewest:
        problems.append(f"resources: {fewest} workers with {gpus:g} GPUs each, but there is room for {room}. Ask for less.")
    if gpus > 1 and gpus != int(gpus):
        problems.append(f"resources.gpus: {gpus:g}: above one, a worker gets whole GPUs. Write {math.ceil(gpus)}.")
    places = _room(capacity.gpus, capacity.node_gpus, capacity.nodes, gpus) if gpus else capacity.cpus
    # As many as there is room for at all: a cluster may grow, but is planned with as it is.
    workers = max(fewest, min(most, places, capacity.cpus // (asked.cpus if asked.cpus != "auto" else 1)))
    by_gpu = places // workers if gpus else trials
    side_by_side = max(1, min(trials, capacity.cpus // workers, by_gpu, 1 if inline else trials))
    per_node = math.ceil(side_by_side * workers / capacity.nodes)
    cpus = asked.cpus if asked.cpus != "auto" else max(1, min(capacity.node_cpus // per_node, capacity.cpus // (side_by_side * workers)))
    if cpus > capacity.node_cpus:
        problems.append(f"resources.cpus: {cpus} asked for a worker, but no node has more than {capacity.node_cpus}. Ask for less.")
    elif (room := _room(capacity.cpus, capacity.node_cpus, capacity.nodes, cpus)) < fewest:
        problems.append(f"resources: {fewest} workers with {cpus} CPU cores each, but there is room for {room}. Ask for less.")
    concurrent = max(1, min(side_by_side, _room(capacity.cpus, capacity.node_cpus, capacity.nodes, cpus) // workers))
    return Allocation(most, cpus, gpus, concurrent, fewest, asked.strategy)


def check_inline(launch: Launch, inline: bool, problems: list[str]) -> None:
    """What one process cannot do goes into `problems`."""
    if inline and (workers := launch.resources.workers[0]) > 1:
        problems.append(f"resources.num_workers: {workers} workers need --executor ray; inline is one process. Ask for 1.")
    if inline and launch.search.algorithm == "pbt":
        problems.append("search.algorithm: pbt compares trials side by side, which needs --executor ray. Take random or tpe.")
    if inline and (scheduler := launch.early_stopping.scheduler) != "none":
        problems.append(f"early_stopping.scheduler: {scheduler} compares trials side by side, which needs --executor ray. Ask for none.")


def _room(total: int, node: int, nodes: int, each: float) -> int:
    """For how many workers with `each` of something there is room. A worker lies on one node, and a share of a GPU on one GPU."""
    if each < 1:
        return total * int(1 / each + 1e-9)
    return min(total // int(each), nodes * (node // int(each)))


def make_plan(
    timed: Sequence[Trial],
    trials: Sequence[Trial],
    to_sample: int,
    allocation: Allocation,
    executor: Executor,
    precision: str | None,
    out: Path,
    checkpoint_every_s: float,
) -> Plan:
    """Probe and reckon. `precision`: settled before (a resumed run), or None to settle it here. Configurations of `timed` are timed:
    those of `trials`, and examples of the `to_sample` further ones that will come from a search.

    All configurations of a sweep get one precision: the fastest that agreed with fp32 in every configuration it was tried
    in, so that none is compared in a format of its own. Probes run as many at a time as trials will.
    """
    first: dict[str, Trial] = {}
    for trial in timed:
        first.setdefault(trial.configuration, trial)
    waiting = list(first.values())[:MAX_PROBED]
    probes: dict[str, TimingProbe] = {}
    while waiting:
        now, waiting = waiting[: allocation.concurrent], waiting[allocation.concurrent :]
        # A half-empty machine is faster than the sweep will be.
        padded = [now[index % len(now)] for index in range(allocation.concurrent)][:MAX_PROBED]
        assignments = [allocation.assignment(trial, out, checkpoint_every_s) for trial in padded]
        found = executor.probe(assignments, None if precision is None else [precision])
        precision = precision or _fastest(found)
        for trial, tried in zip(now, found, strict=False):
            if tried:
                probes[trial.configuration] = next((probe for probe in tried if probe.precision == precision), tried[0])
    mean = sum(probe.trial_s for probe in probes.values()) / max(len(probes), 1)
    seconds = [probes[t.configuration].trial_s if t.configuration in probes else mean for t in trials] + [mean] * to_sample
    return Plan(
        allocation=allocation,
        capacity=executor.capacity(),
        precision=precision or "",
        probes=probes,
        mean_s=mean,
        eta_s=makespan(seconds, allocation.concurrent) if probes else math.nan,
        disk_bytes=sum(_bytes(probes.get(t.configuration)) for t in trials) + to_sample * max(map(_bytes, probes.values()), default=0),
        free_bytes=shutil.disk_usage(out).free,
    )


def choose_plan(
    timed: Sequence[Trial],
    trials: Sequence[Trial],
    to_sample: int,
    allocation: Allocation,
    executor: Executor,
    launch: Launch,
    precision: str | None,
    out: Path,
) -> Plan:
    """`make_plan`, and once more with several trials on each GPU where their memory allows it: the faster of the two by the clock.

    A share of a GPU is bookkeeping, which nothing enforces, so the memory that a probe saw decides how many fit, and the probe
    of them together has to bear it out.
    """
    alone = make_plan(timed, trials, to_sample, allocation, executor, precision, out, launch.checkpoint_every_s)
    if (closer := gpu_sharing_allocation(alone, launch, len(trials) + to_sample)) is None:
        return alone
    together = make_plan(timed, trials, to_sample, closer, executor, alone.precision, out, launch.checkpoint_every_s)
    fits = all(probe.memory_fraction <= (1 - MEMORY_SPARE) * closer.gpus for probe in together.probes.values())
    return together if fits and len(together.probes) == len(alone.probes) and together.eta_s < alone.eta_s else alone


def gpu_sharing_allocation(plan: Plan, launch: Launch, trials: int) -> Allocation | None:
    """The share with which as many trials lie on a GPU as its memory and the cores bear; None where that is one, or was not left open."""
    most = max((probe.memory_fraction for probe in plan.probes.values()), default=0.0)
    if launch.resources.gpus != "auto" or plan.allocation.gpus != 1 or plan.allocation.num_workers > 1 or not most:
        return None
    capacity = plan.capacity
    together = min(int((1 - MEMORY_SPARE) / most), MAX_ON_A_GPU, capacity.cpus // capacity.gpus, math.ceil(trials / capacity.gpus))
    if together < 2:
        return None
    gpus = math.floor(10_000 / together) / 10_000  # Ray counts in ten-thousandths
    return allocate(replace(launch, resources=replace(launch.resources, gpus=gpus)), capacity, trials, False, [])


def makespan(seconds: Sequence[float], concurrent: int) -> float:
    """When the last ends, if each starts, in order, as soon as one of `concurrent` places is free."""
    ends = [0.0] * concurrent
    for duration in seconds:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def _fastest(found: Sequence[Sequence[TimingProbe]]) -> str:
    """fp32 stands first among what was tried and always agrees with itself; "" only where nothing could be tried."""
    total: dict[str, float] = {}
    found = [tried for tried in found if tried]
    for name in {probe.precision for tried in found for probe in tried}:
        seconds = [probe.training_s for tried in found for probe in tried if probe.precision == name]
        if len(seconds) == len(found):
            total[name] = sum(seconds)
    return min(total, key=lambda name: total[name], default="")


def _bytes(probe: TimingProbe | None) -> int:
    return 0 if probe is None else probe.metadata.get("parameters", 0) * BYTES_PER_PARAMETER * checkpoints.KEEP
