"""A task whose outcome is known beforehand, for tests of what compares trials while they run."""

import os
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic.dataclasses import dataclass

import ddl
from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, Number, Task


@dataclass(frozen=True, config=STRICT)
class Race(Task):
    """After each of `steps` steps, `pause_s` long, it has come `speed` further. Its metadata name the node that it ran on last."""

    changeable: ClassVar[tuple[str, ...]] = ("speed",)

    speed: Number
    steps: Count
    pause_s: Number

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        first, come = (0, 0.0) if resume is None else (resume["step"], resume["come"])
        node = {"node": os.environ.get("DDL_TEST_NODE", "")}
        if first == 0:
            start = {"step": 0, "come": 0.0}
            metadata = {"evaluations": 0, "package": ddl.__file__, "cache": os.environ.get("DDL_CACHE")}
            yield Progress(step=0, total_steps=self.steps, state=lambda: start, metadata=metadata | node)
        for step in range(first + 1, self.steps + 1):
            time.sleep(self.pause_s)
            come += self.speed
            state = {"step": step, "come": come}
            yield Progress(
                step=step,
                total_steps=self.steps,
                state=lambda state=state: state,
                metrics={"val/come": come},
                metadata=node if step == first + 1 else {},
            )
