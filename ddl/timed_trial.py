"""A running trial whose first steps, evaluation and inference are timed."""

import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

import torch
from torch import Tensor

from ddl.devices import Device
from ddl.latency.budget import EXAMPLES
from ddl.latency.measure import repeated_example
from ddl.progress import Diverged, Progress
from ddl.trial_errors import TRIAL_ERRORS

WARM_UP = 2
"""Steps before the timed ones: they load kernels, choose algorithms and compile."""

EVALUATED = 0.02
"""A CPU's evaluation is measured if the trial declares that it costs at most this fraction of its steps, or no more than the timed ones."""


class TimedTrial:
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
