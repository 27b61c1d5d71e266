"""A task that several workers can train together, and slowly enough that something can happen to them meanwhile."""

import time
from collections.abc import Iterator

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.classification import Classification
from ddl.tasks.task import STRICT, Number


@dataclass(frozen=True, config=STRICT)
class Paused(Classification):
    """Classification, `pause_s` longer a step."""

    pause_s: Number

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        for progress in super().run(device, resume):
            time.sleep(self.pause_s)
            yield progress
