"""Timing probes: a trial's first steps in several precisions, each timed and compared with fp32.

bf16 is the fastest choice on one processor, the slowest on another, and sometimes wrong (pytorch#163347, #183815). Candidates
are therefore timed on the trial's own first steps, and only one whose losses agree with plain fp32 is chosen.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from ddl.devices import Device
from ddl.latency.measure import EXAMPLES, repeated_example
from ddl.precision import prepare_process
from ddl.progress import Diverged, Progress
from ddl.trial_errors import TRIAL_ERRORS, error_line

AGREEMENT = 0.02
"""Largest relative deviation of a candidate's losses from fp32's. bf16 has a rounding error of 0.4% (2^-8) per operation."""

WARM_UP = 2
"""Steps before the timed ones: they load kernels, choose algorithms and compile."""

EVALUATED = 0.02
"""A CPU's evaluation is measured if the trial declares that it costs at most this fraction of its steps, or no more than the timed ones."""

CONTEXT_BYTES = 600e6
"""GPU memory of a CUDA process without its tensors: kernels and workspaces of libraries. Some hundred MB, by library and GPU."""


@dataclass(frozen=True)
class TimingProbe:
    """Timing of a trial's first steps in one precision, and the expected duration of the whole trial.

    start_s, step_s, evaluate_s: seconds until the first step (loading data, building the model) in a process that has started such a
        trial before, per step (as `Progress.step` counts), and per evaluation.
    deviation: largest relative difference of the losses from fp32's.
    metadata: the trial's `Progress.metadata`.
    compile_s: seconds of compilation in every trial.
    first_start_s, first_compile_s: the further seconds of start and compilation in a process's first trial.
    call_s: seconds of one inference call with `latency.measure.EXAMPLES` examples; 0 if there is no model to time.
    memory_bytes: peak GPU memory of the process; free_bytes: GPU memory that it could have used; 0 on a CPU.
    probe_s: seconds that the timing took.
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
    """

    probes: Sequence[TimingProbe]
    failures: Mapping[str, str] = field(default_factory=dict)
    traceback: str = ""


def time_candidates(
    start: Callable[[str], Iterator[Progress]],
    names: Sequence[str],
    device: Device,
    steps: int,
    window_s: float = 0.0,
    ready: Callable[[], None] = lambda: None,
) -> Timings:
    """Time the first steps of one trial in each precision of `names`, one after another: at least `steps` steps and `window_s` seconds.

    `start(name)` starts the trial in that precision. The first of `names` is the reference, whose errors are raised. A precision
    that raises, or whose losses deviate from the reference's by more than `AGREEMENT`, is a failure and does not affect the others.
    `ready` is called before the timed steps of each precision, and may wait for probes in other processes.

    The first start in a process also imports modules, starts the device and reads files that later trials find in memory. So with a
    single precision the trial is started once more, and all probes get the shortest start.

    A CPU's time per step is the median; a GPU, which runs behind the host, is timed over the whole window.
    """
    probes: list[TimingProbe] = []
    failures: dict[str, str] = {}
    starts_s: list[float] = []
    reference: Sequence[float] | None = None
    for name in names:
        try:
            probe, losses = _time_one(name, start, device, steps, window_s, ready)
        except TRIAL_ERRORS as error:
            if reference is None:
                raise
            failures[name] = error_line(error)
            continue
        starts_s.append(probe.start_s)
        reference = losses if reference is None else reference
        deviation = _deviation(losses, reference)
        if deviation > AGREEMENT:
            failures[name] = f"its losses deviate from fp32's by {100 * deviation:.3g}%"
        else:
            probes.append(replace(probe, deviation=deviation))
    if len(starts_s) == 1:
        prepare_process(names[0])
        with _Timed(start(names[0]), device) as again:
            starts_s.append(again.start_s)
    shortest_s = min(starts_s)
    probes = [replace(probe, start_s=shortest_s, first_start_s=starts_s[0] - shortest_s) for probe in probes]
    return Timings(sorted(probes, key=lambda probe: probe.step_s), failures)


def _time_one(
    name: str, start: Callable[[str], Iterator[Progress]], device: Device, steps: int, window_s: float, ready: Callable[[], None]
) -> tuple[TimingProbe, list[float]]:
    """The timing probe of one precision, without its deviation, and its first losses."""
    began = time.perf_counter()
    compiles = not {"compiled", "cuda_graphs"}.isdisjoint(name.split())
    prepare_process(name)
    free_bytes = _free_bytes(device)
    with _refuse_eager_fallback(compiles), _Timed(start(name), device) as timed:
        timed.warm_up()
        ready()
        step_s = timed.step_s(steps, window_s)
        evaluate_s = timed.evaluate_s(step_s, steps)
        call_s = timed.call_s()
    warm_up_s, first = timed.warm_up_s, timed.first
    memory_bytes = _peak_bytes(device)
    compile_s = first_compile_s = 0.0
    if compiles:  # again, as a later trial in the same process, which finds the compiler's results on the disk
        prepare_process(name)
        with _Timed(start(name), device) as again:
            again.warm_up()
        compile_s = max(again.warm_up_s - WARM_UP * step_s, 0.0)
        first_compile_s = max(warm_up_s - again.warm_up_s, 0.0)
    probe = TimingProbe(
        precision=name,
        start_s=timed.start_s,
        step_s=step_s,
        evaluate_s=evaluate_s,
        deviation=0.0,
        total_steps=first.total_steps,
        evaluations=first.metadata.get("evaluations", 0),
        metadata=dict(first.metadata),
        compile_s=compile_s,
        first_compile_s=first_compile_s,
        call_s=call_s,
        memory_bytes=memory_bytes,
        free_bytes=free_bytes,
        probe_s=time.perf_counter() - began,
    )
    return probe, timed.losses(steps)


class _Timed:
    """A running trial whose first steps are timed. A context manager: the trial ends with it."""

    def __init__(self, run: Iterator[Progress], device: Device):
        self._run, self._device = run, device
        began = time.perf_counter()
        self.first = self._last = next(run)
        self._evaluation = self.first.evaluate
        device.synchronise()
        self._first_evaluation_s = self.first.metrics.get("time/evaluate_s", 0.0)
        self.start_s = time.perf_counter() - began - self._first_evaluation_s
        self.warm_up_s = 0.0
        self._times: list[float] = []
        self._losses: list[Tensor | None] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._run.close()  # type: ignore[attr-defined]

    def warm_up(self) -> None:
        """Run the steps that the trial declares untypical (`untimed_steps`), then a few more and, on a GPU, an evaluation."""
        while self._last.step < self.first.metadata.get("untimed_steps", 0) and self._advance():
            pass
        began = time.perf_counter()
        for _ in range(WARM_UP):
            if (duration := self._time_one()) is not None:
                self._times.append(duration)
        if self._device.torch.type == "cuda" and self._evaluation:
            self._evaluate()  # compiles and allocates as the trial's first evaluation will
        self._device.synchronise()
        self.warm_up_s = time.perf_counter() - began

    def step_s(self, steps: int, window_s: float) -> float:
        """Seconds per step, from at least `steps` yields, warm-up included, and at least `window_s` seconds."""
        began, first = time.perf_counter(), self._last.step
        if self._device.torch.type != "cuda":
            times: list[float] = []
            while (len(self._times) + len(times) < steps or time.perf_counter() - began < window_s) and (
                took := self._time_one()
            ) is not None:
                times.append(took)
            return statistics.median(times or self._times or [0.0])
        evaluations_s, yields = 0.0, 0
        while (yields < steps or time.perf_counter() - began < window_s) and self._advance():
            evaluations_s += self._last.metrics.get("time/evaluate_s", 0.0)
            yields += 1
        self._device.synchronise()
        return (time.perf_counter() - began - evaluations_s) / max(self._last.step - first, 1)

    def evaluate_s(self, step_s: float, steps: int) -> float:
        """Seconds per evaluation: measured, as the trial declares it if that would take too long, or the first evaluation's."""
        declared = self.first.metadata.get("evaluation_steps")
        on_gpu = self._device.torch.type == "cuda"
        if self._evaluation and (on_gpu or (declared or 0.0) <= max(steps, EVALUATED * self.first.total_steps)):
            took = self._evaluate()
            # The first evaluation in a process takes longer. On a GPU it was part of the warm-up.
            return took if on_gpu or (declared or 0.0) > steps else min(took, self._evaluate())
        return self._first_evaluation_s if declared is None else declared * step_s

    def call_s(self) -> float:
        """Seconds of one inference call (`TimingProbe.call_s`), the second of two."""
        took = 0.0
        with torch.no_grad(), suppress(*TRIAL_ERRORS):  # the trial will record why its model cannot be timed
            if (predictor := self._last.predictor()) is not None:
                inputs = repeated_example(predictor, EXAMPLES).to(self._device.torch)
                for _ in range(2):
                    began = time.perf_counter()
                    predictor.module(inputs)
                    self._device.synchronise()
                    took = time.perf_counter() - began
        return took

    def _evaluate(self) -> float:
        """Seconds of an evaluation of the model as it is, also if that finds that the trial has diverged."""
        assert self._evaluation is not None
        began = time.perf_counter()
        with suppress(Diverged):
            self._evaluation()
        self._device.synchronise()
        return time.perf_counter() - began

    def losses(self, steps: int) -> list[float]:
        """The losses of the first `steps` yields; NaN if a yield has none."""
        return [float("nan") if loss is None else loss.item() for loss in self._losses[:steps]]

    def _time_one(self) -> float | None:
        """Seconds per step of the next yield, which may be many steps, without any evaluation in it. None if the trial has ended."""
        began, before = time.perf_counter(), self._last.step
        if not self._advance():
            return None
        self._device.synchronise()
        took = time.perf_counter() - began - self._last.metrics.get("time/evaluate_s", 0.0)
        return took / max(self._last.step - before, 1)

    def _advance(self) -> bool:
        """Run to the next yield. False if the trial has ended, also by diverging, since its first steps were timed all the same."""
        try:
            self._last = next(self._run)
        except (StopIteration, Diverged):
            return False
        self._evaluation = self._last.evaluate or self._evaluation  # the step that ends an epoch has none
        if self._last.step > self.first.metadata.get("untimed_steps", 0):
            self._losses.append(self._last.loss)
        return True


@contextmanager
def _refuse_eager_fallback(compiles: bool) -> Iterator[None]:
    """Makes a model that compiles too often raise. By default Dynamo then runs it eagerly, with no more than a line in the log."""
    if not compiles:
        yield
        return
    import torch._dynamo.config as dynamo  # loading the compiler is slow

    with dynamo.patch(fail_on_recompile_limit_hit=True):
        yield


def _free_bytes(device: Device) -> float:
    """GPU memory that this process could use, its CUDA context included; 0 on a CPU."""
    if device.torch.type != "cuda":
        return 0.0
    return torch.cuda.mem_get_info(device.torch)[0] + torch.cuda.memory_reserved(device.torch) + CONTEXT_BYTES


def _peak_bytes(device: Device) -> float:
    """Peak GPU memory of this process since `prepare_process`, CUDA context included; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device.torch) + CONTEXT_BYTES if device.torch.type == "cuda" else 0.0


def _deviation(losses: Sequence[float], reference: Sequence[float]) -> float:
    """Largest relative difference of `losses` from `reference`; infinite if the candidate diverged before the reference.

    0 if the task has no losses, or the reference's are not finite, because then nothing can be compared.
    """
    if len(losses) < len(reference):
        return float("inf")
    pairs = [(a, b) for a, b in zip(losses, reference, strict=False) if b == b and abs(b) != float("inf")]
    if any(a != a for a, _ in pairs):
        return float("inf")
    return max((abs(a - b) / max(abs(b), 1e-12) for a, b in pairs), default=0.0)
