"""Tasks that misbehave on purpose, for the tests of the engine."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, Task


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


@dataclass(frozen=True, config=STRICT)
class Mischief(Task):
    """Counts to `steps`; at step 3 it does what `deed` says. `marks` is a folder in which it leaves a file per attempt."""

    deed: str
    steps: Count
    pause_s: float
    marks: str

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        first = 0 if resume is None else resume["step"]
        marks = Path(self.marks)
        (marks / f"{self.deed}-{self.seed}-{os.getpid()}-{time.time_ns()}-from-{first}").touch()
        total = torch.tensor(0.0 if resume is None else resume["total"])
        for step in range(first, self.steps):
            if step == 3:
                self._do()
            time.sleep(self.pause_s)
            total = total + step
            state = {"step": step + 1, "total": total.item()}
            value = float("nan") if self.deed == "nan" and step >= 3 else total.item()
            yield Progress(step=step + 1, total_steps=self.steps, state=lambda state=state: state, metrics={"val/total": value})

    def _do(self) -> None:
        if self.deed.startswith("print"):
            for line in range(20_000):
                print(f"line {line}" if line % 2 else f"an error {line}", file=sys.stdout if line % 2 else sys.stderr)
        if self.deed == "raise":
            raise RuntimeError("meant to fail")
        if self.deed == "exit":
            sys.exit()
        if self.deed == "raise what cannot be printed":
            raise Unprintable
        if self.deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        # In the probe, and in the first attempt.
        attempts = len(list(Path(self.marks).glob(f"{self.deed}-{self.seed}-*")))
        if self.deed == "die once" and attempts <= 2:
            os.kill(os.getpid(), signal.SIGKILL)
