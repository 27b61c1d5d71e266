"""Plans a sweep: times the first steps of its configurations, chooses the precision, and estimates duration and disk use."""

import heapq
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddl import checkpoints
from ddl.precision import TimingProbe
from ddl.schema import Launch
from ddl.sweeps.allocation import Allocation, allocate
from ddl.sweeps.executors import Capacity, Executor
from ddl.sweeps.space import Trial

MAX_PROBED = 8
"""Largest number of configurations that are timed. The others are expected to take the mean of these."""

MAX_ON_A_GPU = 8
"""Largest number of trials that share a GPU."""

MEMORY_SPARE = 0.1
"""Fraction of a GPU's memory that no plan uses: the few steps of a timing probe may miss a trial's peak."""

BYTES_PER_PARAMETER = 12
"""Checkpoint size per parameter: fp32 weights and Adam's two moments."""


@dataclass(frozen=True)
class Plan:
    """Allocation, precision and expected duration of a sweep.

    `probes` maps configurations to their timing probe in the chosen precision; `mean_s` is their mean duration of a trial in
    seconds. `eta_s` is the time in seconds from the start of the first trial to the end of the last one; NaN if unknown.
    """

    allocation: Allocation
    capacity: Capacity
    precision: str
    probes: Mapping[str, TimingProbe]
    mean_s: float
    eta_s: float
    disk_bytes: int
    free_bytes: int

    def seconds(self, trial: Trial) -> float:
        """Expected duration of a trial in seconds."""
        probe = self.probes.get(trial.configuration)
        return self.mean_s if probe is None else probe.trial_s

    def record(self, executor: str, trials: int) -> dict[str, Any]:
        """The plan as the ledger stores it."""
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


def make_plan(
    timed: Sequence[Trial],
    trials: Sequence[Trial],
    to_sample: int,
    allocation: Allocation,
    executor: Executor,
    precision: str | None,
    out: Path,
) -> Plan:
    """Time the configurations of `timed` and estimate the duration of all trials: `trials` and `to_sample` later ones.

    `timed` has the trials, and examples of those that a search will sample. `precision` is None if this plan has to choose it.
    All configurations of a sweep get the same precision, so that the comparison is fair: the fastest that agreed with fp32 in
    every configuration.
    """
    probes, precision = _probe_configurations(timed, allocation, executor, precision, out)
    mean = sum(probe.trial_s for probe in probes.values()) / max(len(probes), 1)
    seconds = [probes[t.configuration].trial_s if t.configuration in probes else mean for t in trials] + [mean] * to_sample
    return Plan(
        allocation=allocation,
        capacity=executor.capacity(),
        precision=precision,
        probes=probes,
        mean_s=mean,
        eta_s=makespan(seconds, allocation.concurrent) if probes else math.nan,
        disk_bytes=sum(_bytes(probes.get(t.configuration)) for t in trials) + to_sample * max(map(_bytes, probes.values()), default=0),
        free_bytes=shutil.disk_usage(out).free,
    )


def _probe_configurations(
    timed: Sequence[Trial], allocation: Allocation, executor: Executor, precision: str | None, out: Path
) -> tuple[dict[str, TimingProbe], str]:
    """The timing probe of each configuration, and the precision. Runs as many probes at once as the sweep runs trials."""
    by_configuration: dict[str, Trial] = {}
    for trial in timed:
        by_configuration.setdefault(trial.configuration, trial)
    waiting = list(by_configuration.values())[:MAX_PROBED]
    probes: dict[str, TimingProbe] = {}
    while waiting:
        batch, waiting = waiting[: allocation.concurrent], waiting[allocation.concurrent :]
        # Repeat configurations to fill the machine: on a partly idle machine they would run faster than in the sweep.
        padded = [batch[index % len(batch)] for index in range(allocation.concurrent)][:MAX_PROBED]
        assignments = [allocation.assignment(trial, out, checkpoint_every_s=math.inf) for trial in padded]
        results = executor.probe(assignments, None if precision is None else [precision])
        precision = precision or _fastest_precision(results)
        for trial, by_precision in zip(batch, results, strict=False):
            if by_precision:
                probes[trial.configuration] = next((p for p in by_precision if p.precision == precision), by_precision[0])
    return probes, precision or ""


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
    """The faster of two plans (`make_plan`): one trial on each GPU, or several if their memory allows it.

    Ray does not enforce fractions of a GPU. The memory that the first probes used decides how many trials may fit, and probes
    that run together confirm it.
    """
    alone = make_plan(timed, trials, to_sample, allocation, executor, precision, out)
    if (shared := gpu_sharing_allocation(alone, launch, len(trials) + to_sample)) is None:
        return alone
    together = make_plan(timed, trials, to_sample, shared, executor, alone.precision, out)
    fits = all(probe.memory_fraction <= (1 - MEMORY_SPARE) * shared.gpus for probe in together.probes.values())
    return together if fits and len(together.probes) == len(alone.probes) and together.eta_s < alone.eta_s else alone


def gpu_sharing_allocation(plan: Plan, launch: Launch, trials: int) -> Allocation | None:
    """An allocation with as many trials on a GPU as its memory and the CPU cores allow.

    None if only one fits, or if `resources.gpus` is not auto.
    """
    peak = max((probe.memory_fraction for probe in plan.probes.values()), default=0.0)
    if launch.resources.gpus != "auto" or plan.allocation.gpus != 1 or plan.allocation.num_workers > 1 or not peak:
        return None
    capacity = plan.capacity
    per_gpu = min(int((1 - MEMORY_SPARE) / peak), MAX_ON_A_GPU, capacity.cpus // capacity.gpus, math.ceil(trials / capacity.gpus))
    if per_gpu < 2:
        return None
    gpus = math.floor(10_000 / per_gpu) / 10_000  # Ray counts in ten-thousandths
    return allocate(replace(launch, resources=replace(launch.resources, gpus=gpus)), capacity, trials, False, [])


def makespan(seconds: Sequence[float], concurrent: int) -> float:
    """The end of the last job if jobs start in order, each as soon as one of `concurrent` slots is free."""
    ends = [0.0] * concurrent
    for duration in seconds:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def _fastest_precision(results: Sequence[Sequence[TimingProbe]]) -> str:
    """The precision with the shortest total training time among those that all configurations have; "" if there is none.

    fp32 is always timed and always agrees with itself.
    """
    results = [by_precision for by_precision in results if by_precision]
    total: dict[str, float] = {}
    for name in {probe.precision for by_precision in results for probe in by_precision}:
        seconds = [probe.training_s for by_precision in results for probe in by_precision if probe.precision == name]
        if len(seconds) == len(results):
            total[name] = sum(seconds)
    return min(total, key=lambda name: total[name], default="")


def _bytes(probe: TimingProbe | None) -> int:
    return 0 if probe is None else probe.metadata.get("parameters", 0) * BYTES_PER_PARAMETER * checkpoints.KEEP
