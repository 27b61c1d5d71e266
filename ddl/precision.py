"""Number format, memory layout and compilation of a model, and the timing probe that chooses between them.

bf16 is the fastest choice on one processor, the slowest on another, and sometimes wrong (pytorch#163347, #183815). Candidates
are therefore timed in turn on the trial's own first steps, and only one whose losses agree with plain fp32 is chosen.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ddl.devices import Device
from ddl.progress import Diverged, Progress

AGREEMENT = 0.02
"""Largest relative deviation of a candidate's losses from fp32's. bf16 has a rounding error of 0.4% (2^-8) per operation."""


@dataclass(frozen=True)
class Precision:
    """Number format, memory layout and compilation. As text: "fp32", "bf16 channels_last", "bf16 channels_last compiled"."""

    dtype: torch.dtype
    channels_last: bool
    compiled: bool

    @classmethod
    def parse(cls, text: str) -> "Precision":
        """The inverse of `str()`. Raises ValueError for unknown words."""
        dtype, *rest = text.split() or [""]
        if dtype not in _DTYPES or not set(rest) <= {"channels_last", "compiled"} or len(set(rest)) < len(rest):
            raise ValueError(f"precision: {text!r} is unknown. Use auto, or fp32 or bf16, then channels_last, compiled or both.")
        return cls(_DTYPES[dtype], "channels_last" in rest, "compiled" in rest)

    def __str__(self) -> str:
        name = next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)
        return " ".join([name] + ["channels_last"] * self.channels_last + ["compiled"] * self.compiled)

    def apply(self, module: nn.Module) -> nn.Module:
        """The module in this layout, compiled if asked for. Its parameters stay fp32; `autocast` only affects operations."""
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        return torch.compile(module) if self.compiled else module  # type: ignore[return-value]

    def layout(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in this layout; other tensors unchanged."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last and images.dim() == 4 else images

    def autocast(self, device: Device) -> AbstractContextManager:
        """Context in which operations run in this number format."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device.torch.type, dtype=self.dtype)


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def candidates(device: Device) -> list[str]:
    """The precisions worth timing on `device`, fp32 first. Compiling takes half a minute, which pays off on a GPU only."""
    names = ["fp32", "fp32 channels_last", "bf16 channels_last"]
    return [*names, "bf16 channels_last compiled"] if device.torch.type == "cuda" else names


@dataclass(frozen=True)
class TimingProbe:
    """Timing of a trial's first steps in one precision.

    start_s, step_s, evaluate_s: seconds until the first step, per step (as `Progress.step` counts), and per evaluation.
    deviation: largest relative difference of the losses from fp32's.
    metadata: the trial's `Progress.metadata`.
    memory_fraction: peak fraction of the GPU's memory, 0..1; 0 on a CPU.
    """

    precision: str
    start_s: float
    step_s: float
    evaluate_s: float
    deviation: float
    total_steps: int
    evaluations: int
    metadata: Mapping[str, Any]
    memory_fraction: float = 0.0

    @property
    def training_s(self) -> float:
        """Expected seconds for all steps and evaluations."""
        return self.total_steps * self.step_s + self.evaluations * self.evaluate_s

    @property
    def trial_s(self) -> float:
        """Expected seconds for the whole trial."""
        return self.start_s + self.training_s


def time_candidates(start: Callable[[str], Iterator[Progress]], names: Sequence[str], device: Device, steps: int) -> list[TimingProbe]:
    """Time the first `steps` steps of one trial in each precision of `names`, in turn; fastest first.

    `start(name)` starts the trial in that precision. The first of `names` is the reference; precisions that deviate from it by
    more than `AGREEMENT` are left out. The time per step is the median, without the first two steps, which include warm-up.
    """
    tried = [_begin(name, start(name), device) for name in names]
    for _ in range(steps):
        for candidate in tried:
            _advance(candidate, device)
    for candidate in tried:
        candidate.run.close()  # type: ignore[attr-defined]
    timed = []
    for candidate in tried:
        first, deviation = candidate.first, _deviation(candidate.losses, tried[0].losses)
        if deviation > AGREEMENT:
            continue
        step_s = statistics.median(candidate.times[2:] or candidate.times or [0.0])
        first_evaluation_s = first.metrics.get("time/evaluate_s", 0.0)
        evaluate_s = first.metadata["evaluation_steps"] * step_s if "evaluation_steps" in first.metadata else first_evaluation_s
        start_s, evaluations = candidate.start_s - first_evaluation_s, first.metadata.get("evaluations", 0)
        timed.append(
            TimingProbe(candidate.name, start_s, step_s, evaluate_s, deviation, first.total_steps, evaluations, dict(first.metadata))
        )
    return sorted(timed, key=lambda probe: probe.step_s)


@dataclass
class _Candidate:
    """A running trial in one precision: seconds and loss of each timed step, and the last step (`done`)."""

    name: str
    run: Iterator[Progress]
    first: Progress
    start_s: float
    done: int
    times: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def _begin(name: str, run: Iterator[Progress], device: Device) -> _Candidate:
    """Start the trial, and run the steps that it declares untypical (`untimed_steps`)."""
    began = time.perf_counter()
    first = next(run)
    device.synchronise()
    candidate = _Candidate(name, run, first, time.perf_counter() - began, first.step)
    while candidate.done < first.metadata.get("untimed_steps", 0) and (progress := _next(run)) is not None:
        candidate.done = progress.step
    return candidate


def _advance(candidate: _Candidate, device: Device) -> None:
    """Time one yield, which may be many steps, without any evaluation in it. Does nothing if the trial has ended."""
    began = time.perf_counter()
    progress = _next(candidate.run)
    device.synchronise()
    if progress is None:
        return
    took = time.perf_counter() - began - progress.metrics.get("time/evaluate_s", 0.0)
    candidate.times.append(took / max(progress.step - candidate.done, 1))
    candidate.losses.append(float("nan") if progress.loss is None else progress.loss.item())
    candidate.done = progress.step


def _next(run: Iterator[Progress]) -> Progress | None:
    """The next yield; None if the trial has ended, also by diverging, since its first steps were timed all the same."""
    try:
        return next(run, None)
    except Diverged:
        return None


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
