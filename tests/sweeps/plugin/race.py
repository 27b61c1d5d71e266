"""A task whose outcome is known beforehand, for tests of what compares trials while they run."""

import os
import time
from collections.abc import Iterator

from pydantic.dataclasses import dataclass

import ddl
from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, Number, Task


@dataclass(frozen=True, config=STRICT)
class Race(Task):
    """After each of `steps` steps, `pause_s` long, it has come `speed` further."""

    speed: Number
    steps: Count
    pause_s: Number

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        first = 0 if resume is None else resume["step"]
        if first == 0:
            facts = {"evaluations": 0, "package": ddl.__file__, "cache": os.environ.get("DDL_CACHE")}
            yield Progress(step=0, total_steps=self.steps, state=lambda: {"step": 0}, facts=facts)
        for step in range(first + 1, self.steps + 1):
            time.sleep(self.pause_s)
            yield Progress(
                step=step, total_steps=self.steps, state=lambda step=step: {"step": step}, metrics={"val/come": self.speed * step}
            )
