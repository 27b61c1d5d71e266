"""Settings of a process that a trial may change, and that are restored after it."""

import gc
import logging
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ddl.trial_errors import error_line


@dataclass(frozen=True)
class _Setting:
    """A setting of the process. `write` sets a value that `read` has returned."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def working_directory() -> str:
    """The working directory. Empty if it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _fp32_products() -> Any:
    """Precision of products of fp32 tensors. None if it was set in a way in which PyTorch refuses to read it as a whole."""
    try:
        return (
            torch.backends.fp32_precision,  # type: ignore[attr-defined]
            torch.backends.cudnn.fp32_precision,
            torch.backends.mkldnn.fp32_precision,
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            torch.get_float32_matmul_precision(),
        )
    except RuntimeError:
        return None


def _set_fp32_products(value: Any) -> None:
    if value is None:
        return
    torch.backends.fp32_precision = value[0]  # type: ignore[attr-defined]
    torch.backends.cudnn.fp32_precision, torch.backends.mkldnn.fp32_precision = value[1:3]
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = value[3:5]
    torch.set_float32_matmul_precision(value[5])


def _cudnn() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.benchmark, cudnn.deterministic


def _set_cudnn(value: tuple[bool, ...]) -> None:
    torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = value


def _autocast() -> list[tuple[str, bool, torch.dtype]]:
    return [(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")]


def _set_autocast(value: list[tuple[str, bool, torch.dtype]]) -> None:
    for device, enabled, dtype in value:
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # the CPU as an explicit default slows every call


def _flushes_denormals() -> bool:
    """True if numbers too small for a normalised float become 0 in this thread."""
    return sys.float_info.min / 2 == 0


def _compile_threads() -> int | None:
    """Number of processes that compile. None while the compiler is not imported."""
    return torch._inductor.config.compile_threads if "torch._inductor.config" in sys.modules else None


def _set_compile_threads(value: int | None) -> None:
    if value is not None:
        torch._inductor.config.compile_threads = value


def _set_environment(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE")
    if hasattr(signal, name)
)
"""Signals whose handlers are restored."""


def _signal_handlers() -> dict[signal.Signals, Any]:
    """Handlers that Python knows. Empty outside the main thread, the only one that may change them."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is not None}


def _set_signal_handlers(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _set_warning_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()
    warnings.filters[:] = filters  # type: ignore[index]


def _set_logging(value: tuple[int, list[logging.Handler]]) -> None:
    logging.root.setLevel(value[0])
    logging.root.handlers[:] = value[1]


def _set_output(value: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = value


SETTINGS = (
    _Setting("the working directory", working_directory, os.chdir),
    _Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _Setting("the default device", torch.get_default_device, _set_default_device),
    _Setting("deterministic algorithms", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    _Setting("cuDNN's settings", _cudnn, _set_cudnn),
    _Setting("the precision of fp32 products", _fp32_products, _set_fp32_products),
    _Setting("autocast", _autocast, _set_autocast),
    _Setting("denormal numbers", _flushes_denormals, torch.set_flush_denormal),
    _Setting("gradients", torch.is_grad_enabled, torch.set_grad_enabled),
    _Setting("anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    _Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    _Setting("the compiler's processes", _compile_threads, _set_compile_threads),
    _Setting("numpy's error handling", np.geterr, lambda value: np.seterr(**value)),
    _Setting("environment variables", os.environ.copy, _set_environment),
    _Setting("signal handlers", _signal_handlers, _set_signal_handlers),
    _Setting("warning filters", lambda: list(warnings.filters), _set_warning_filters),
    _Setting("logging", lambda: (logging.root.level, list(logging.root.handlers)), _set_logging),
    _Setting("standard output", lambda: (sys.stdout, sys.stderr), _set_output),
    _Setting("sys.path", lambda: list(sys.path), lambda value: sys.path.__setitem__(slice(None), value)),
    _Setting("garbage collection", gc.isenabled, lambda value: gc.enable() if value else gc.disable()),
)
"""Settings that a trial may change and the next trial of the process must not see."""

FUNCTIONS: tuple[tuple[Any, str], ...] = (
    *((nn.functional, name) for name in ("relu", "gelu", "silu", "softmax", "log_softmax", "dropout", "linear", "conv2d")),
    *((nn.functional, name) for name in ("layer_norm", "batch_norm", "cross_entropy", "mse_loss", "scaled_dot_product_attention")),
    (nn.Module, "__call__"),
    (Tensor, "backward"),
    (time, "sleep"),
    (time, "time"),
    (random, "random"),
    (np.random, "rand"),
    (np.random, "randn"),
)
"""Functions, by owner and name, that are replaced most often. The next trial must not find them replaced."""


class KeptSettings:
    """A context manager whose end restores `SETTINGS`, `FUNCTIONS` and, if asked, the states of all random number generators."""

    def __init__(self, random_states: bool = False) -> None:
        self._random_states = random_states

    def __enter__(self) -> Self:
        self._settings = [(setting, setting.read()) for setting in SETTINGS]
        self._functions = [getattr(owner, name) for owner, name in FUNCTIONS]
        if self._random_states:
            self._states = torch.get_rng_state(), np.random.get_state(), random.getstate()
            self._gpu_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return self

    def __exit__(self, *exception: object) -> None:
        self.restore_settings()
        if self._random_states:
            torch_state, numpy_state, python_state = self._states
            torch.set_rng_state(torch_state)
            np.random.set_state(numpy_state)
            random.setstate(python_state)
            torch.cuda.set_rng_state_all(self._gpu_states)

    def restore_settings(self) -> list[str]:
        """Restore settings and functions. Returns a line for each setting that cannot be restored."""
        problems: list[str] = []
        for setting, value in self._settings:
            try:
                if setting.read() != value:
                    setting.write(value)
            except (OSError, RuntimeError, ValueError) as error:  # such as a working directory that was removed
                problems.append(f"{setting.name} could not be restored ({error_line(error)})")
        for (owner, name), function in zip(FUNCTIONS, self._functions, strict=True):
            if getattr(owner, name, None) is not function:
                setattr(owner, name, function)
        return problems
