"""A task for the timing probes of this machine: it records its process, and dies, raises or waits as it is told."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, PrecisionName, Task


@dataclass(frozen=True, config=STRICT)
class Probed(Task):
    """Counts to `steps`, slowly before its first step if `seed` is not 0, and leaves a file with its process and one for each step in `marks`.

    `deed`: "die" in any precision but fp32, "raise" after the first step, or "hang" in it.
    """

    deed: str
    steps: Count
    marks: str
    precision: PrecisionName

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        Path(self.marks, f"{self.seed} {os.getpid()}").touch()
        if self.deed == "die" and self.precision != "fp32":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5 * bool(self.seed))
        for step in range(self.steps):
            if step == 1 and self.deed == "raise":
                raise RuntimeError("as it was told")
            if step == 1 and self.deed == "hang":
                time.sleep(10_000)
            Path(self.marks, f"{self.seed}-{step}.step").write_text(f"{time.time()} {os.environ['OMP_NUM_THREADS']}")
            yield Progress(step + 1, self.steps, lambda: {}, loss=torch.tensor(1.0))
