"""A task whose trials can be trained as one model, and that misbehaves on purpose."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Diverged, Progress, StackSteps, State, alone
from ddl.tasks.task import STRICT, Count, Number, Task

LATE = 15
"""A step that timing probes do not reach."""


@dataclass(frozen=True, config=STRICT)
class Together(Task):
    """Adds `rate` times the step's number, `steps` times; measures at every second step. At step 3, or at `LATE`,
    a member does what `deed` says.

    `marks` is a folder in which every attempt leaves a file that names its members.
    """

    stackable = ("rate", "deed")

    rate: Number
    deed: str
    steps: Count
    pause_s: Number
    marks: str

    def can_stack(self) -> bool:
        return self.deed != "alone"

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        yield from alone(self.run_stacked([self], device, [resume]))

    @classmethod
    def run_stacked(cls, members: Sequence["Together"], device: Device, resume: Sequence[State | None]) -> StackSteps:
        one = members[0]
        first = 0 if resume[0] is None else resume[0]["step"]
        assert all((0 if state is None else state["step"]) == first for state in resume)
        names = "+".join(f"{member.seed}" for member in members)
        marked = Path(one.marks) / f"{names}-{os.getpid()}-{time.time_ns()}-from-{first}"
        marked.touch()
        rates = torch.tensor([member.rate for member in members], dtype=torch.float64)
        totals = torch.tensor([0.0 if state is None else state["total"] for state in resume], dtype=torch.float64)
        running = dict(enumerate(members))
        for step in range(first + 1, one.steps + 1):
            time.sleep(one.pause_s)
            totals += rates * step
            outcomes: dict[int, Progress | Diverged] = {}
            if step == 3 and one.deed == "pause":
                time.sleep(1)
            for index, member in list(running.items()):
                if step == 3 and member.deed == "diverge":
                    outcomes[index] = Diverged("meant to diverge")
                    del running[index]
                    continue
                if step >= 3 and (member.deed == "raise" or (member.deed == "raise in a stack" and len(members) > 1)):
                    raise RuntimeError("meant to fail")
                if step == LATE and member.deed == "die if seed 3" and member.seed == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                if step == LATE and member.deed == "die once" and not (died := Path(one.marks) / "0-0-0-died").exists():
                    died.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                value = float("nan") if member.deed == "give nan" and step >= 3 else totals[index].item()
                state = {"step": step, "total": totals[index].item()}
                outcomes[index] = Progress(
                    step=step,
                    total_steps=one.steps,
                    state=lambda state=state: state,
                    metrics={"val/total": value} if step % 2 == 0 or value != value else {},
                    loss=totals[index],
                )
            leaving = yield outcomes
            for index in leaving or ():
                del running[index]
