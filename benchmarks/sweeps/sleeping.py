"""A task that only sleeps, alone or as one model with others, for the load that many trials at once put on the driver."""

import time
from collections.abc import Iterator, Sequence
from typing import Self

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, StackSteps, State, alone
from ddl.tasks.task import STRICT, Count, Positive, Task


@dataclass(frozen=True, config=STRICT)
class Sleeping(Task):
    """Measures four metrics `measurements` times, every `every_s` seconds."""

    measurements: Count
    every_s: Positive

    def can_stack(self) -> bool:
        return True

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        return alone(self.run_stacked([self], device, [resume]))

    @classmethod
    def run_stacked(cls, members: Sequence[Self], device: Device, resume: Sequence[State | None]) -> StackSteps:
        task, left = members[0], set(range(len(members)))
        for step in range(task.measurements + 1):
            time.sleep(task.every_s if step else 0)
            metrics = dict.fromkeys(("train/loss", "val/loss", "val/accuracy", "val/value"), 1 / (step + 1)) if step else {}
            left -= set((yield {member: cls._progress(task, step, metrics) for member in left}) or ())

    @staticmethod
    def _progress(task: "Sleeping", step: int, metrics: dict[str, float]) -> Progress:
        metadata = {} if step else {"evaluations": task.measurements}
        return Progress(step, task.measurements, lambda: {"step": step}, epoch=step, metrics=metrics, metadata=metadata)
