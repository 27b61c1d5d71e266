"""Errors that end one trial, or one measurement of it, and nothing else; and their description."""

import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

TRIAL_ERRORS = (Exception, SystemExit)
"""Errors that the code of a trial may raise. `sys.exit()` in a trial ends that trial, not the sweep."""


class InterruptSignal(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ends the sweep. A KeyboardInterrupt of another class was raised by the code of a trial."""


def raise_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Signal handler that raises InterruptSignal."""
    raise InterruptSignal


class TrialTimeout(Exception):
    """A trial was ended by `trial_timeout_s` or `stall_timeout_s`. The message names the limit and the trial's last lines."""


def error_line(error: BaseException) -> str:
    """Type and first line of an error."""
    lines = message_of(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"


def error_place(error: BaseException) -> str:
    """Type, message, file and line of an error. The message alone of a timeout, which names them itself."""
    if isinstance(error, TrialTimeout):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {message_of(error)} ({Path(frame.filename).name}:{frame.lineno})"


def message_of(error: BaseException) -> str:
    """The error's message, also if its own `__str__` raises."""
    return str(traceback.TracebackException.from_exception(error)).strip()
