"""A task of one step that computes nothing, for the overhead of a trial."""

from collections.abc import Iterator

from pydantic.dataclasses import dataclass

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Number, Task


@dataclass(frozen=True, config=STRICT)
class Noop(Task):
    """One step with one metric, which is `value`."""

    value: Number

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        yield Progress(step=0, total_steps=1, state=lambda: {"step": 0}, metadata={"evaluations": 1})
        yield Progress(step=1, total_steps=1, epoch=1, state=lambda: {"step": 1}, metrics={"val/value": self.value})
