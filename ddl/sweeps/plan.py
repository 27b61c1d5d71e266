"""The plan of a sweep: allocation, precision, packs, and the expected duration.

The expected duration of a trial is the sum of

- its start: loading data and building the model, in a process that has trained such a trial before;
- compilation;
- steps times seconds per step, both of which the plan shows;
- evaluations, including what they fit and generate, each as long as one that was measured, or as the task declares if that would take
  too long on a CPU;
- the timing of inference, in the first trial of each configuration only: computed from one call of the model.

A process's first trial also imports modules and starts the device. That is added once to the sweep's duration if the processes of the
trials are not those of the probes. Checkpoints, and compilation and export in `latency: full`, are not included. `report_duration` is the
time for the report after the last trial. What is over when the plan is shown (the start of Ray, the probes) is in neither.
"""

import heapq
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddl.config import ConfigError
from ddl.sweeps.allocation import Allocation
from ddl.sweeps.capacity import Capacity
from ddl.sweeps.space import Trial
from ddl.sweeps.stacking import Stacking
from ddl.tasks.user_code import PACKAGE
from ddl.timings import TimingProbe
from ddl.units import size

BUNDLE_S, BUNDLES = 2.0, 4
"""Short trials share a pack that is expected to take this many seconds; each place gets at least this many packs. Starting a pack costs
the driver a few tenths of a second."""


LAST_REPORT_S, REPORT_S = 2.0, 0.0025
"""Seconds for the results and the last report of a sweep, and for each of its trials. Reports during the sweep have imported pandas and Plotly.

From the end of the last trial to that of the command: 0.4 to 0.9 s on two idle cores with AMX (five sweeps of 6 or 9 trials); slower
machines take up to three times as long. `--report` (`python -m benchmarks.report`) takes 2.1 s of CPU time with 100 trials (n = 1), 4.3 s with 1,000
(n = 2) and 23 s with 10,000 (n = 3).
"""


@dataclass(frozen=True)
class PlannedPack:
    """Trials that a worker trains, one after the other or as one model, and their expected seconds in total."""

    trials: Sequence[Trial]
    stacked: bool
    seconds: float


@dataclass(frozen=True)
class Plan:
    """Allocation, precision and expected duration of a sweep.

    `probes` maps configurations to their timing probe in the chosen precision; `mean_s` is the expected duration in seconds of a trial
    that is added later. `inference_s` has the seconds of each trial that times inference, by its id. `failures` has the
    reason for each precision that was tried and cannot be used. `eta_s` is the time in seconds from the start of the first trial to the
    end of the last one; NaN if unknown. `stacking` says which trials are trained as one model, and `bundles` whether short trials may
    share a pack. `done` is the part of each begun trial that a resume does not train again, by its id. `errors` maps the configurations of which no step could be timed to their error and its traceback.
    """

    allocation: Allocation
    capacity: Capacity
    precision: str
    probes: Mapping[str, TimingProbe]
    failures: Mapping[str, str]
    mean_s: float
    eta_s: float
    disk_bytes: int
    free_bytes: int
    stacking: Stacking
    bundles: bool = False
    inference_s: Mapping[str, float] = field(default_factory=dict)
    done: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ConfigError if the trials cannot succeed: the disk is too small for their checkpoints, or the first steps of all
        configurations fail with the same error."""
        if self.disk_bytes > self.free_bytes:
            raise ConfigError(
                [
                    f"the checkpoints of the trials need about {size(self.disk_bytes)}, but the disk of the runs has {size(self.free_bytes)} free. "
                    "Free some space, or name a folder on another disk with --out."
                ]
            )
        reasons = {reason for reason, _ in self.errors.values()}
        traced = next((traced for _, traced in self.errors.values()), "")
        if self.probes or len(reasons) != 1 or not traced:  # no traceback: the process died, perhaps of another one's memory
            return
        raised_in = re.findall(r'^ +File "(.*)", line', traced, re.MULTILINE)
        if Path(raised_in[-1]).is_relative_to(PACKAGE):  # the message says what is wrong; the lines of ddl tell a user nothing
            traced = ""
        raise ConfigError(
            [f"{traced}The first steps of every configuration that was timed ({'; '.join(self.errors)}) fail: {reasons.pop()}."]
        )

    def packs(self, trials: Sequence[Trial]) -> list[PlannedPack]:
        """The trials in packs, in the order of their first members."""
        stacks, alone = self.stacking.split(trials)
        packs = [
            PlannedPack(stack, True, self.stacking.seconds(stack) * max(map(self.left, stack)) + sum(map(self._inference_s, stack)))
            for stack in stacks
        ]
        most = math.ceil(len(alone) / (self.allocation.concurrent * BUNDLES)) if self.bundles and self.probes else 1
        bundles: list[list[Trial]] = []
        seconds = 0.0
        for trial in sorted(alone, key=lambda trial: trial.position):
            if not bundles or len(bundles[-1]) == most or seconds >= BUNDLE_S:
                bundles.append([])
                seconds = 0.0
            bundles[-1].append(trial)
            seconds += self.seconds(trial)
        packs += [PlannedPack(bundle, False, sum(map(self.seconds, bundle))) for bundle in bundles]
        return sorted(packs, key=lambda pack: pack.trials[0].position)

    def seconds(self, trial: Trial) -> float:
        """Expected duration in seconds of a trial by itself."""
        probe = self.probes.get(trial.configuration)
        if probe is None:
            return mean_trial_s(self.probes) * self.left(trial) + self._inference_s(trial)
        saved_s = (probe.training_s - probe.compile_s) * self.done.get(trial.trial_id, 0.0)
        return probe.trial_s - saved_s + self._inference_s(trial)

    def left(self, trial: Trial) -> float:
        """The part of a trial's steps that is still to be trained, 0 to 1."""
        return 1 - self.done.get(trial.trial_id, 0.0)

    def _inference_s(self, trial: Trial) -> float:
        return self.inference_s.get(trial.trial_id, 0.0)

    def eta(self, trials: Sequence[Trial], to_add: int) -> float:
        """Expected seconds from the start of the first trial to the end of the last one."""
        if not self.probes:
            return math.nan
        seconds = [pack.seconds for pack in self.packs(trials)] + [self.mean_s] * to_add
        first_s = max(probe.first_compile_s for probe in self.probes.values())
        if self.allocation.gpus:  # a process with a GPU ends with its probe, so the trials start in others
            first_s += max(probe.first_start_s for probe in self.probes.values())
        return makespan(seconds, self.allocation.concurrent) + first_s

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
            "nodes": len(self.capacity.nodes),
            "cpus": self.capacity.cpus,
            "gpus": self.capacity.gpus,
            "precision": self.precision,
            "failed_precisions": dict(self.failures),
            "stacks": self.stacking.record(),
            "eta_s": None if math.isnan(self.eta_s) else self.eta_s,
            "disk_bytes": self.disk_bytes if self.probes else None,
            "probes": [
                {
                    "configuration": name,
                    "precision": probe.precision,
                    "steps_per_s": 1 / probe.step_s if probe.step_s else None,
                    "seconds_per_trial": probe.trial_s,
                    "start_s": probe.start_s,
                    "evaluate_s": probe.evaluate_s,
                    "evaluations": probe.evaluations,
                    "deviation": probe.deviation,
                }
                for name, probe in self.probes.items()
            ],
        }


def report_duration(trials: int) -> float:
    """Expected seconds for the results and the report of a run, from the end of its last trial."""
    return LAST_REPORT_S + REPORT_S * trials


def makespan(seconds: Sequence[float], concurrent: int) -> float:
    """The end of the last job if jobs start in order, each as soon as one of `concurrent` slots is free."""
    ends = [0.0] * concurrent
    for duration in seconds:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def mean_trial_s(probes: Mapping[str, TimingProbe]) -> float:
    """Mean expected duration of a trial, without the timing of inference; 0 if nothing was timed."""
    return sum(probe.trial_s for probe in probes.values()) / max(len(probes), 1)
