"""Chooses the plan of a sweep: times the first steps of its configurations, in several precisions and with several trials on a GPU."""

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ddl import checkpoints
from ddl.latency.budget import expected_duration
from ddl.schema import Launch
from ddl.sweeps.allocation import Allocation, allocate
from ddl.sweeps.choose_stacking import MEMORY_SPARE, choose_stacking
from ddl.sweeps.executors import Prober
from ddl.sweeps.pack import Pack
from ddl.sweeps.plan import Plan, mean_trial_s
from ddl.sweeps.space import Trial
from ddl.sweeps.stacking import Stacking, independent
from ddl.timings import TimingProbe
from ddl.trial_errors import OUT_OF_MEMORY

MAX_PROBED = 8
"""Largest number of configurations that are timed. The others are expected to take the mean of these."""

MAX_ON_A_GPU = 8
"""Largest number of trials that share a GPU."""

WINDOW_S, SHARING_WINDOW_S = 1.0, 3.0
"""Seconds that the probe of a trial on a GPU is timed, alone and with others on the same GPU."""

CLEARLY_SLOWER = 1.5
"""A precision that takes so many times as long as fp32 in the first round is not timed again."""

PLANNING = 0.1
"""Fraction of a sweep's expected duration that further probes may take. The first round is always timed."""

BYTES_PER_PARAMETER = 12
"""Checkpoint size per parameter: fp32 weights and Adam's two moments."""


@dataclass(frozen=True)
class Planned:
    """The trials that a plan is for: `trials`, and `to_add` that are added while the sweep runs; `later` has examples of these."""

    trials: Sequence[Trial]
    later: Sequence[Trial] = ()
    to_add: int = 0

    @property
    def timed(self) -> Sequence[Trial]:
        """Trials whose configurations are timed."""
        return [*self.trials, *self.later]

    @property
    def size(self) -> int:
        """Number of trials to train."""
        return len(self.trials) + self.to_add


def make_plan(planned: Planned, allocation: Allocation, executor: Prober, precision: str | None, out: Path) -> Plan:
    """Time the configurations of the trials and estimate the duration of all of them.

    `precision` is None if this plan has to choose it; one that is no candidate on this hardware is replaced too.
    All configurations of a sweep get the same precision, so that the comparison is fair: the fastest that agreed with fp32 in
    every configuration that was timed. The first round times all candidates, later rounds fp32 and the fastest other one.
    """
    probes, failures, errors, precision = _probe_configurations(planned, allocation, executor, precision, out)
    plan = Plan(
        allocation=allocation,
        capacity=executor.capacity(),
        precision=precision,
        probes=probes,
        failures=failures,
        mean_s=mean_trial_s(probes),
        eta_s=math.nan,
        disk_bytes=_disk_bytes(probes, planned, allocation.concurrent),
        free_bytes=shutil.disk_usage(out).free,
        stacking=Stacking(precision),
        errors=errors,
    )
    return replace(plan, eta_s=plan.eta(planned.trials, planned.to_add))


def _probe_configurations(
    planned: Planned, allocation: Allocation, executor: Prober, precision: str | None, out: Path
) -> tuple[dict[str, TimingProbe], dict[str, str], dict[str, tuple[str, str]], str]:
    """The timing probe of each configuration, the precisions that failed, `Plan.errors`, and the chosen precision.

    Runs as many probes at once as the sweep runs trials. Stops after a round if the next ones would take longer than they are worth.
    """
    by_configuration: dict[str, Trial] = {}
    for trial in planned.timed:
        if not trial.task.timed:
            return {}, {}, {}, precision or ""
        by_configuration.setdefault(trial.configuration, trial)
    waiting = list(by_configuration.values())[:MAX_PROBED]
    trials_each = planned.size / max(len(by_configuration), 1)
    window_s = 0.0 if not allocation.gpus else WINDOW_S if allocation.gpus == 1 else SHARING_WINDOW_S
    found: dict[str, Sequence[TimingProbe]] = {}
    probes: dict[str, TimingProbe] = {}
    failures: dict[str, str] = {}
    errors: dict[str, tuple[str, str]] = {}
    names = None if precision is None else [precision]
    chosen = precision or ""
    while waiting:
        batch, waiting = waiting[: allocation.concurrent], waiting[allocation.concurrent :]
        # Repeat configurations to fill the machine: on a partly idle machine they would run faster than in the sweep.
        padded = [batch[index % len(batch)] for index in range(allocation.concurrent)][:MAX_PROBED]
        packs = [Pack((allocation.assignment(trial, out, checkpoint_every_s=math.inf),)) for trial in padded]
        results = executor.probe(packs, names, window_s)
        tried = max(len(timings.probes) + len(timings.failures) for timings in results)
        one_s = max(timings.took_s for timings in results) / max(tried, 1)
        for trial, timings in zip(batch, results, strict=False):
            failures |= {name: f"{trial.configuration}: {reason}" for name, reason in timings.failures.items()}
            if timings.probes:
                found[trial.configuration] = timings.probes
            else:
                errors[trial.configuration] = "; ".join(timings.failures.values()), timings.traceback
        if precision is None or not all(any(probe.precision == chosen for probe in each) for each in found.values()):
            total_s = _training_s(list(found.values()), trials_each, allocation.concurrent)
            chosen = min(total_s, key=total_s.__getitem__, default="")
            names = _to_time_again(total_s) or None
        probes = {name: next((probe for probe in each if probe.precision == chosen), each[0]) for name, each in found.items()}
        rounds_s = math.ceil(len(waiting) / allocation.concurrent) * one_s * min(tried, len(names) if names else tried)
        expected_s = sum(probe.trial_s for probe in probes.values()) / max(len(probes), 1) * planned.size / allocation.concurrent
        if probes and rounds_s > PLANNING * expected_s:
            break
    return probes, failures, errors, chosen


def choose_plan(planned: Planned, allocation: Allocation, executor: Prober, launch: Launch, precision: str | None, out: Path) -> Plan:
    """The fastest of several plans (`make_plan`): one trial on each GPU, or as many as its memory allows, or fewer.

    Ray does not enforce fractions of a GPU. The memory that the first probes used decides how many trials may fit, and probes
    that run at the same time confirm it. Fewer and fewer trials on a GPU are timed until that is slower, or has taken too long.
    """
    best = alone = make_plan(planned, allocation, executor, precision, out)
    began = time.monotonic()
    for shared in gpu_sharing_allocations(alone, launch, planned.size):
        together = make_plan(planned, shared, executor, alone.precision, out)
        if _fits(together, alone) and together.eta_s < best.eta_s:
            best = together
        elif best is not alone:
            break
        if time.monotonic() - began > PLANNING * best.eta_s:
            break
    return best


def resumed_plan(planned: Planned, allocation: Allocation, executor: Prober, launch: Launch, precision: str | None, out: Path) -> Plan:
    """The plan of a resumed run in its earlier `allocation`, or another one if its trials do not fit into their fraction of this GPU."""
    plan = make_plan(planned, allocation, executor, precision, out)
    if launch.resources.gpus != "auto" or not 0 < allocation.gpus < 1 or _fits_fraction(plan):
        return plan
    whole = allocate(launch, plan.capacity, planned.size, False, [])
    return choose_plan(planned, whole, executor, launch, precision, out)


def with_stacks(plan: Plan, planned: Planned, executor: Prober, launch: Launch, out: Path) -> Plan:
    """The plan with those trials as one model that are faster so, and with the timing of inference."""
    trials = planned.trials
    stacking = choose_stacking(trials, plan.probes, plan.allocation, executor, launch, plan.precision, out, PLANNING * plan.eta_s)
    inference_s = {name: expected_duration(probe.call_s, launch.latency, probe.precision) for name, probe in plan.probes.items()}
    mean_s = sum(inference_s.values()) / max(len(inference_s), 1)
    first = {trial.configuration: trial for trial in reversed(trials)}
    plan = replace(
        plan,
        stacking=stacking,
        bundles=independent(launch) and launch.early_stopping.scheduler == "none",
        failures={**plan.failures, **stacking.failures},
        inference_s={trial.trial_id: inference_s.get(name, mean_s) for name, trial in first.items()},
    )
    if later := planned.later:
        new = {trial.configuration for trial in later} - first.keys()  # inference is timed once for each configuration
        added_s = sum(pack.seconds for pack in plan.packs(later)) / len(later)
        plan = replace(plan, mean_s=added_s + mean_s * len(new) / len(later))
    return replace(plan, eta_s=plan.eta(trials, planned.to_add))


def gpu_sharing_allocations(plan: Plan, launch: Launch, trials: int) -> Iterator[Allocation]:
    """Allocations with several trials on a GPU: as many as its memory and the CPU cores allow, then one less, and so on.

    There are none if only one fits, or if `resources.gpus` is not auto.
    """
    allocation, capacity = plan.allocation, plan.capacity
    peak = max((probe.memory_bytes / probe.free_bytes for probe in plan.probes.values() if probe.free_bytes), default=0.0)
    if launch.resources.gpus != "auto" or allocation.gpus != 1 or allocation.num_workers > 1 or not peak:
        return
    per_gpu = min(int((1 - MEMORY_SPARE) / peak), MAX_ON_A_GPU, capacity.cpus // capacity.gpus, math.ceil(trials / capacity.gpus))
    for sharing in range(per_gpu, 1, -1):
        gpus = math.floor(10_000 / sharing) / 10_000  # Ray counts in ten-thousandths
        shared = allocate(replace(launch, resources=replace(launch.resources, gpus=gpus)), capacity, trials, False, [])
        if shared.concurrent > allocation.concurrent:
            yield shared


def _fits(together: Plan, alone: Plan) -> bool:
    """True if all configurations could be timed together, and all trials of a GPU fit into the memory that was free for one."""
    free = min(probe.free_bytes for probe in alone.probes.values())
    peaks = [probe.memory_bytes for probe in together.probes.values()]
    return len(peaks) == len(alone.probes) and max(peaks) <= (1 - MEMORY_SPARE) * free * together.allocation.gpus


def _fits_fraction(plan: Plan) -> bool:
    """True if no configuration ran out of memory, and each fits into its fraction of what the first process on the GPU found free."""
    free = max((probe.free_bytes for probe in plan.probes.values()), default=0.0)
    fits = all(probe.memory_bytes <= (1 - MEMORY_SPARE) * free * plan.allocation.gpus for probe in plan.probes.values())
    return fits and not any(OUT_OF_MEMORY.search(reason) for reason, _ in plan.errors.values())


def _to_time_again(total_s: Mapping[str, float]) -> list[str]:
    """The precisions to time in the next round: fp32, with which the chosen one has to agree in every configuration, and the fastest other.

    If fp32 itself was clearly faster than all others, only that. Not if it was a little faster: another program may have held up the others.
    """
    others = [name for name in sorted(total_s, key=total_s.__getitem__) if name != "fp32"]
    if "fp32" in total_s:
        others = [name for name in others if total_s[name] < CLEARLY_SLOWER * total_s["fp32"]]
    return ["fp32", *others[:1]] if total_s else []


def _training_s(results: Sequence[Sequence[TimingProbe]], trials_each: float, concurrent: int) -> dict[str, float]:
    """Seconds in which all trials train, by precision, of those that all configurations have.

    `results` has the timing probes of each configuration. `trials_each` is the number of trials of a configuration. Each of the
    `concurrent` processes compiles for the first time once.
    """
    total: dict[str, float] = {}
    for name in {probe.precision for by_precision in results for probe in by_precision}:
        probes = [probe for by_precision in results for probe in by_precision if probe.precision == name]
        if len(probes) == len(results):
            first_s = concurrent * max(probe.first_compile_s for probe in probes)
            total[name] = trials_each * sum(probe.training_s for probe in probes) + first_s
    return total


def _disk_bytes(probes: Mapping[str, TimingProbe], planned: Planned, concurrent: int) -> int:
    """Bytes of all checkpoints: those that each trial keeps, and one that each of the `concurrent` ones writes at the same time.

    A configuration that was not timed counts as the largest one, and so do trials that are added later.
    """
    one = {name: probe.metadata.get("parameters", 0) * BYTES_PER_PARAMETER for name, probe in probes.items()}
    largest = max(one.values(), default=0)
    kept = sum(one.get(trial.configuration, largest) for trial in planned.trials) + planned.to_add * largest
    return checkpoints.KEEP * kept + concurrent * largest
