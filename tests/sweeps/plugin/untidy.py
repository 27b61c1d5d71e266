"""A task that leaves its process as no task should, or does not end, for the tests of what the next trial finds."""

import contextlib
import ctypes
import gc
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import nn

from ddl.devices import Device
from ddl.progress import Progress, State
from ddl.tasks.task import STRICT, Count, Task

LATE = 15
"""A step that timing probes do not reach."""

CHILDREN: list[subprocess.Popen] = []


@dataclass(frozen=True, config=STRICT)
class Untidy(Task):
    """Measures random numbers of all generators at each of `steps` steps, without seeding any. At step 3, or at `LATE`, does `deed`."""

    deed: str
    steps: Count

    def run(self, device: Device, resume: State | None = None) -> Iterator[Progress]:
        if self.deed == "return none":
            return None  # type: ignore[return-value]
        if self.deed == "return a list":
            return []  # type: ignore[return-value]
        return self._steps(0 if resume is None else resume["step"])

    def _steps(self, first: int) -> Iterator[Progress]:
        for step in range(first + 1, self.steps + 1):
            if step == 3:
                _do(self.deed)
            if step == LATE:
                _do(self.deed.removeprefix("late "))
            if self.deed == "yield a number":
                yield step  # type: ignore[misc]
            numbers = {"val/torch": torch.rand(()).item(), "val/numpy": float(np.random.rand()), "val/python": random.random()}
            yield Progress(step=step, total_steps=self.steps, state=lambda step=step: {"step": step}, metrics=numbers)


def spin() -> None:
    while True:
        pass


def _do(deed: str) -> None:
    if deed in CHANGES:
        CHANGES[deed]()
    elif deed == "spin":
        spin()
    elif deed == "spin and catch":
        with contextlib.suppress(BaseException):
            spin()
    elif deed == "wait in C":
        mutex = ctypes.create_string_buffer(64)  # zeros: an unlocked one
        lock_in_c = ctypes.CDLL(None).pthread_mutex_lock  # no signal interrupts it
        lock_in_c(mutex)
        lock_in_c(mutex)
    elif deed == "keep the lock":
        mutex = ctypes.create_string_buffer(64)
        keep = ctypes.PyDLL(None).pthread_mutex_lock  # does not release Python's global lock
        keep(mutex)
        keep(mutex)
    elif deed == "leave a thread":
        threading.Thread(target=time.sleep, args=(5,), name="poller").start()
    elif deed == "leave a child":
        CHILDREN.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]))
    elif deed == "raise KeyboardInterrupt":
        raise KeyboardInterrupt
    elif deed == "raise GeneratorExit":
        raise GeneratorExit


def _change_signal_handler() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


CHANGES: dict[str, Any] = {
    "working directory": lambda: os.chdir("/"),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "tf32": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "denormal numbers": lambda: torch.set_flush_denormal(True),
    "gradients": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "threads": lambda: torch.set_num_threads(3),
    "numpy's errors": lambda: np.seterr(all="raise"),
    "environment": lambda: os.environ.update(DDL_UNTIDY="1", HOME="/nowhere"),
    "signal handler": _change_signal_handler,
    "warnings": lambda: warnings.simplefilter("error"),
    "logging": lambda: logging.basicConfig(level="DEBUG", force=True),
    "output": lambda: setattr(sys, "stdout", None),
    "path": lambda: sys.path.insert(0, "/nowhere"),
    "garbage collection": gc.disable,
    "a function": lambda: setattr(nn.functional, "relu", abs),
    "a method": lambda: setattr(nn.Module, "__call__", abs),
    "a clock": lambda: setattr(time, "sleep", abs),
}
"""Changes of the process, by name."""


def process_state() -> dict[str, Any]:
    """The parts of the process that `CHANGES` changes, without random states."""
    return {
        "working directory": os.getcwd(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "matmul precision": torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "denormal numbers": sys.float_info.min / 2 == 0,
        "gradients": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "threads": torch.get_num_threads(),
        "numpy's errors": np.geterr(),
        "environment": dict(os.environ),
        "signal handler": signal.getsignal(signal.SIGINT),
        "warnings": list(warnings.filters),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "output": sys.stdout,
        "path": list(sys.path),
        "garbage collection": gc.isenabled(),
        "a function": nn.functional.relu,
        "a method": nn.Module.__call__,
        "a clock": time.sleep,
    }
