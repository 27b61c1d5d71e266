"""GPUs that are not there: PyTorch's answers about them, and a task that needs their memory and reports which GPU it was given.

`DDL_TEST_GPUS` is the number of GPUs. A process imports this module as a plugin, before it asks PyTorch.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from marks import read_marks
from pydantic.dataclasses import dataclass

from ddl import gpus
from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, Number, Task

MEMORY = 10e9
CLAIMED = 100_000

_answers = {
    "is_available": lambda: True,
    "device_count": lambda: int(os.environ["DDL_TEST_GPUS"]),
    "get_arch_list": lambda: ["sm_90"],
    "get_device_name": lambda device: f"Simulated {device.index}",
    "get_device_capability": lambda device: (9, 0),
    "mem_get_info": lambda device: (MEMORY, MEMORY),
    "memory_reserved": lambda device: 0,
    "synchronize": lambda device: None,
}
for _name, _answer in _answers.items():
    setattr(torch.cuda, _name, _answer)
gpus.AMD_DEVICE = Path("/dev/null")  # a driver's device, without which PyTorch is not asked


@dataclass(frozen=True, config=STRICT)
class Hungry(Task):
    """Counts to `steps` with the fraction `memory` of its GPU's memory, and runs out of memory if the trials on it need more than there is.

    It says that it has 100,000 steps, so that a plan takes its time. `marks` is a folder with a file for each process, with the GPU and the times of its first and last step.
    """

    memory: Number
    steps: Count
    marks: str

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        torch.cuda.max_memory_reserved = lambda device: self.memory * MEMORY
        first = 0 if resume is None else resume["step"]
        mark = Path(self.marks) / f"{os.getpid()}-{time.time_ns()}.json"
        gpu, began = os.environ["CUDA_VISIBLE_DEVICES"], time.time()

        def write(ended: float | None) -> None:
            draft = mark.with_suffix(".draft")
            draft.write_text(json.dumps({"gpu": gpu, "memory": self.memory, "began": began, "ended": ended, "pid": os.getpid()}))
            draft.rename(mark)

        write(None)
        try:
            for step in range(first, self.steps):
                time.sleep(0.05)
                if sum(other["memory"] for other in read_marks(self.marks) if other["gpu"] == gpu and other["ended"] is None) > 1:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
                yield Progress(step + 1, CLAIMED, lambda step=step: {"step": step + 1}, metrics={"val/steps": float(step + 1)})
        finally:
            write(time.time())
