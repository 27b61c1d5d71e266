"""A task that only sleeps, alone or as one model with others, for the load that many trials at once put on the driver."""

import time
from collections.abc import Iterator, Sequence
from typing import Self

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, StackSteps, State, alone
from ddl.tasks.task import STRICT, Count, Positive, Task

STEPS = 40
"""Steps between two measurements: the plan times the first eight."""


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
        for step in range(task.measurements * STEPS + 1):
            time.sleep(task.every_s / STEPS if step else 0)
            left -= set((yield {member: cls._progress(task, step) for member in left}) or ())

    @staticmethod
    def _progress(task: "Sleeping", step: int) -> Progress:
        measured = step > 0 and step % STEPS == 0
        metrics = dict.fromkeys(("train/loss", "val/loss", "val/accuracy", "val/value"), 1 / step) if measured else {}
        metadata = {} if step else {"evaluations": task.measurements}
        state = {"step": step}
        return Progress(step, task.measurements * STEPS, lambda: state, epoch=step // STEPS, metrics=metrics, metadata=metadata)
