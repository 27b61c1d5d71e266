"""Timings of a trial's first steps, as `timing_probe` takes them and a plan uses them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TimingProbe:
    """Timing of a trial's first steps in one precision, and the expected duration of the whole trial.

    start_s, step_s, evaluate_s: seconds until the first step (loading data, building the model) in a process that has started such a
        trial before, per step (as `Progress.step` counts), and per evaluation.
    deviation: largest relative difference of the losses from fp32's, or from those of another reference (`time_candidates`).
    metadata: the trial's `Progress.metadata`.
    compile_s: seconds of compilation in every trial.
    first_start_s, first_compile_s: the further seconds of start and compilation in a process's first trial.
    call_s: seconds of one inference call with `latency.budget.EXAMPLES` examples; 0 if there is no model to time.
    memory_bytes: peak GPU memory of the process; free_bytes: GPU memory that it could have used; 0 on a CPU.
    probe_s: seconds of such a timing in a process that has started such a trial before, without waiting for other probes.
    """

    precision: str
    start_s: float
    step_s: float
    evaluate_s: float
    deviation: float
    total_steps: int
    evaluations: int
    metadata: Mapping[str, Any]
    compile_s: float = 0.0
    first_compile_s: float = 0.0
    first_start_s: float = 0.0
    call_s: float = 0.0
    memory_bytes: float = 0.0
    free_bytes: float = 0.0
    probe_s: float = 0.0

    @property
    def training_s(self) -> float:
        """Expected seconds for all steps and evaluations, and for compilation in a process that has trained such a trial before."""
        return self.total_steps * self.step_s + self.evaluations * self.evaluate_s + self.compile_s

    @property
    def trial_s(self) -> float:
        """Expected seconds for the whole trial: start, compilation, steps and evaluations, without the timing of inference."""
        return self.start_s + self.training_s


@dataclass(frozen=True)
class Timings:
    """Timing probes of one trial, fastest first, and the precisions that failed, each with its error or its deviation from fp32.

    traceback: of the error for which there are no probes.
    took_s: seconds that all of it took, without waiting for other probes.
    """

    probes: Sequence[TimingProbe]
    failures: Mapping[str, str] = field(default_factory=dict)
    traceback: str = ""
    took_s: float = 0.0
