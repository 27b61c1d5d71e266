"""A task that kills the process that receives it, once: before the trial has begun in that process."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Task


@dataclass(frozen=True, config=STRICT)
class Perishable(Task):
    """`deadly`: the process that unpickles it dies, unless that has happened before, or it is the driver, whose id is in `driver`."""

    timed: ClassVar[bool] = False

    deadly: bool
    driver: int
    marks: str

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        yield Progress(step=1, total_steps=1, metrics={"val/seed": float(self.seed)})

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _receive, (self.seed, self.deadly, self.driver, self.marks)


def _receive(seed: int, deadly: bool, driver: int, marks: str) -> Perishable:
    if deadly and os.getpid() != driver and not (died := Path(marks) / "died").exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Perishable(seed=seed, deadly=deadly, driver=driver, marks=marks)
