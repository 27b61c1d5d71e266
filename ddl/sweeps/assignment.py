"""A trial as a worker receives it, and the worker's device."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddl.allocator import keep_freed_memory
from ddl.strategy import Strategy
from ddl.tasks.task import Task

if TYPE_CHECKING:
    from ddl.devices import Device


@dataclass(frozen=True)
class Assignment:
    """A trial as a worker receives it: the task, its resources and the folder for its files.

    `cpus` and `gpus` are per worker; `min_workers` to `num_workers` workers train the trial. `changed` are hyperparameters that
    population based training changed during the run; `task` has them already. `keep_measured`: if not 0, store a checkpoint at
    every measurement, and keep those of the last steps, by this fraction of all steps. `url`: copy of the trial's folder in an
    object store, or empty. `latency`: how to time the trained model (`ddl.latency`). `trial_timeout_s` and `stall_timeout_s`: limits of
    an attempt (`TimeLimits`), or None. `log`: file for the output of its code, or None for the process's standard output.
    `may_grow`: a trial that runs out of memory with a fraction of a GPU is started again with a larger one.
    """

    trial_id: str
    task: Task
    num_workers: int
    cpus: int
    gpus: float
    folder: Path
    checkpoint_every_s: float
    min_workers: int = 1
    strategy: Strategy = "ddp"
    changed: Mapping[str, Any] = field(default_factory=dict)
    keep_measured: float = 0.0
    url: str = ""
    latency: str = "none"
    trial_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    log: Path | None = None
    may_grow: bool = True


def device_of(assignment: Assignment, gpu: int = 0, hide: bool = True) -> Device:
    """The device of a trial that this process trains alone: the CPU, or the GPU with this index among those that it sees.

    Also prepares the process for training on the trial's cores. `hide`: hide all GPUs for good from a process that trains on the CPU.
    """
    import torch

    from ddl.devices import Device

    prepare_for_training(assignment.cpus)
    if not assignment.gpus:
        if hide:  # with num_gpus=0 Ray leaves all GPUs visible (ray#62492)
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return Device(torch.device("cpu"))
    return Device(torch.device("cuda", gpu))


def prepare_for_training(cpus: int) -> None:
    """Limit torch's threads, and the processes that compile, to this number, and keep freed memory for the next step."""
    import torch

    keep_freed_memory()
    torch.set_num_threads(cpus)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(cpus)  # read when the compiler is imported
    if "torch._inductor.config" in sys.modules:  # a fork of `fork_server` has it already
        torch._inductor.config.compile_threads = cpus


def larger_fraction(gpus: float) -> float:
    """The fraction of a GPU for a trial that ran out of memory with `gpus`."""
    return min(2 * gpus, 1.0)
