"""Standard output, log file and signal handlers of the process that runs a sweep."""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from ddl.durable import writing
from ddl.standard_streams import UntilItBreaks, flush_or_discard
from ddl.trial_errors import InterruptSignal, raise_interrupt

_ONE_THREAD = threading.RLock()
"""Held by the thread that runs a sweep."""

_plain = functools.partial(Console, highlight=False, markup=False, emoji=False)
"""A console that prints texts as they are: a folder may be called `[draft]` or `:key:`."""

AGAIN_S = 0.05
"""Seconds after which an interruption that Python has ignored is sent again."""


@contextlib.contextmanager
def terminal() -> Iterator[Console]:
    """A console on a copy of standard output, which `quiet` does not redirect.

    Raises ValueError if another thread has one: both would redirect the output, seed and restore the same process.
    """
    if not _ONE_THREAD.acquire(blocking=False):
        raise ValueError(
            "another thread of this process runs a sweep. Wait until it has ended, or start the second one in another process."
        )
    try:
        with _console() as console:
            yield console
    finally:
        _ONE_THREAD.release()


@contextlib.contextmanager
def _console() -> Iterator[Console]:
    if Console().is_jupyter:  # its standard output is not a file, and cannot show a table that is updated in place
        yield _plain(file=sys.stdout, force_jupyter=False, force_terminal=False)
        return
    try:
        copy = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # standard output is no file if a test captures it
        yield _plain(file=sys.stdout)
        return
    with os.fdopen(copy, "w", encoding="utf-8") as stream:
        output = UntilItBreaks(stream)
        try:
            yield _plain(file=output)  # type: ignore[arg-type]  # it needs these methods only
        finally:
            output.flush()


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Redirect the output of this process and its children, including Ray's processes, to the file `log`."""
    for stream in (sys.stdout, sys.stderr):
        flush_or_discard(stream)
    with writing(log), log.open("ab") as file:
        saved = [os.dup(descriptor) for descriptor in (1, 2)]
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # the log cannot be written
                stream.flush()
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
            os.close(original)


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like Ctrl-C: all raise InterruptSignal. `nohup` ignores SIGHUP, and so does this then. Only the main thread receives signals, so elsewhere this does nothing.

    A signal that arrives while Python runs a callback of a weak reference, or a `__del__`, would be lost, because Python ignores what these
    raise. It is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    numbers = [signal.SIGINT, signal.SIGTERM, *([] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP])]
    before = {number: signal.signal(number, raise_interrupt) for number in numbers}
    ignored = sys.unraisablehook

    def send_again(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, InterruptSignal):
            threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            ignored(unraisable)

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = ignored
        for number, handler in before.items():
            signal.signal(number, handler)
