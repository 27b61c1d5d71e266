"""Number format, memory layout and compilation of a model; and which of them trains fastest without going wrong.

Neither is taken on trust: bf16 is the fastest choice on one processor and the slowest on the next, and now and then it is
wrong (pytorch#163347, #183815). So candidates are timed in turn on the trial's own first steps, and only one whose losses
agree with plain fp32 may win.
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
"""How far a candidate's losses may lie from fp32's, relative to them: bf16 rounds at 0.4% (2^-8) an operation."""


@dataclass(frozen=True)
class Precision:
    """`str()` and `parse` are each other's inverse: "fp32", "bf16 channels_last", "bf16 channels_last compiled"."""

    dtype: torch.dtype
    channels_last: bool
    compiled: bool

    @classmethod
    def parse(cls, text: str) -> "Precision":
        """Raises ValueError for words it does not know."""
        dtype, *rest = text.split() or [""]
        if dtype not in _DTYPES or not set(rest) <= {"channels_last", "compiled"} or len(set(rest)) < len(rest):
            raise ValueError(f"precision: {text!r} is unknown. Use auto, or fp32 or bf16, then channels_last, compiled or both.")
        return cls(_DTYPES[dtype], "channels_last" in rest, "compiled" in rest)

    def __str__(self) -> str:
        name = next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)
        return " ".join([name] + ["channels_last"] * self.channels_last + ["compiled"] * self.compiled)

    def apply(self, module: nn.Module) -> nn.Module:
        """The module in this layout, compiled where asked. Its parameters stay fp32: `autocast` rounds the work only."""
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        return torch.compile(module) if self.compiled else module  # type: ignore[return-value]

    def layout(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in this layout; what is no image stays as it is."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last and images.dim() == 4 else images

    def autocast(self, device: Device) -> AbstractContextManager:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device.torch.type, dtype=self.dtype)


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def candidates(device: Device) -> list[str]:
    """What is worth timing there, fp32 first. Compiling takes half a minute before the first step, which only a GPU earns back."""
    names = ["fp32", "fp32 channels_last", "bf16 channels_last"]
    return [*names, "bf16 channels_last compiled"] if device.torch.type == "cuda" else names


@dataclass(frozen=True)
class TimingProbe:
    """What a trial's first steps showed in one precision: seconds to the first step, of a step, of an evaluation.

    A step is what `Progress.step` counts. `deviation` is the largest relative distance from fp32's losses. `metadata` are the
    trial's own (`Progress.metadata`). `memory_fraction` is how much of the GPU's memory it took, 0..1; 0 on a CPU.
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
        """Expected seconds of all steps and evaluations."""
        return self.total_steps * self.step_s + self.evaluations * self.evaluate_s

    @property
    def trial_s(self) -> float:
        """Expected seconds for the whole trial."""
        return self.start_s + self.training_s


def time_candidates(start: Callable[[str], Iterator[Progress]], names: Sequence[str], device: Device, steps: int) -> list[TimingProbe]:
    """Time the first `steps` steps of one trial in each precision of `names`, in turn, fastest first.

    `start(name)` begins the trial in that precision. The first of `names` is the reference; those that disagree with it
    (`AGREEMENT`) are left out. The median step counts, without the first two, which pay for warming up.
    """
    tried = [_begin(name, start(name), device) for name in names]
    for _ in range(steps):
        for candidate in tried:
            _advance(candidate, device)
    for candidate in tried:
        candidate.run.close()  # type: ignore[attr-defined]
    found = []
    for candidate in tried:
        first, deviation = candidate.first, _deviation(candidate.losses, tried[0].losses)
        if deviation > AGREEMENT:
            continue
        step_s = statistics.median(candidate.times[2:] or candidate.times or [0.0])
        evaluated_s = first.metrics.get("time/evaluate_s", 0.0)
        evaluate_s = first.metadata["evaluation_steps"] * step_s if "evaluation_steps" in first.metadata else evaluated_s
        start_s, evaluations = candidate.start_s - evaluated_s, first.metadata.get("evaluations", 0)
        found.append(
            TimingProbe(candidate.name, start_s, step_s, evaluate_s, deviation, first.total_steps, evaluations, dict(first.metadata))
        )
    return sorted(found, key=lambda probe: probe.step_s)


@dataclass
class _Candidate:
    """A trial under way in one precision. `times` are seconds a step, `losses` those of the timed steps, `done` its last step."""

    name: str
    run: Iterator[Progress]
    first: Progress
    start_s: float
    done: int
    times: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def _begin(name: str, run: Iterator[Progress], device: Device) -> _Candidate:
    """The trial after its first yield, and after those steps that it says are not typical."""
    began = time.perf_counter()
    first = next(run)
    device.synchronise()
    candidate = _Candidate(name, run, first, time.perf_counter() - began, first.step)
    while candidate.done < first.metadata.get("untimed_steps", 0) and (progress := _next(run)) is not None:
        candidate.done = progress.step
    return candidate


def _advance(candidate: _Candidate, device: Device) -> None:
    """Time one yield, which may be many steps, without an evaluation within; nothing where the trial has ended."""
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
    """None where the trial has ended, be it by diverging: its first steps took their time all the same."""
    try:
        return next(run, None)
    except Diverged:
        return None


def _deviation(losses: Sequence[float], reference: Sequence[float]) -> float:
    """0 where the task gives no losses to compare, or the reference itself is not finite: then nothing is known against it.
    Infinite where it ended, by diverging, before the reference did."""
    if len(losses) < len(reference):
        return float("inf")
    known = [(a, b) for a, b in zip(losses, reference, strict=False) if b == b and abs(b) != float("inf")]
    if any(a != a for a, _ in known):
        return float("inf")
    return max((abs(a - b) / max(abs(b), 1e-12) for a, b in known), default=0.0)
