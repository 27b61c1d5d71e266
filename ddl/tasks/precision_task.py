"""Base class of the `fit` tasks that can train in several precisions."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from ddl.precision import FP32, Precision
from ddl.tasks.fit_task import FitTask
from ddl.tasks.task import STRICT, PrecisionName


@dataclass(frozen=True, config=STRICT)
class PrecisionTask(FitTask):
    """Base class of tasks whose `OptimisedModule` is given `resolved_precision`."""

    precision_options: ClassVar[tuple[str, ...] | None] = None
    """Those of `channels_last`, `compiled` and `cuda_graphs` that a plan tries, because they can make the networks faster; None for all."""

    precision: PrecisionName
    """Number format and memory layout, such as `fp32` or `bf16 channels_last`; `auto` for the fastest that agrees with fp32."""

    def resolved_precision(self) -> Precision:
        """The precision to train in: fp32 if `auto` has not been resolved by the plan."""
        return FP32 if self.precision == "auto" else Precision.parse(self.precision)

    def has_stackable_precision(self) -> bool:
        """True if trials in the task's precision can be trained as one model.

        Compiled code is that of one model, and in fp16 each model has a scale of its loss.
        """
        precision = self.resolved_precision()
        return not (precision.compiled or precision.cuda_graphs or precision.format == "fp16")
