"""Errors that end one trial, or one measurement of it, and nothing else; and their description."""

import os
import re
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ddl.redaction import Redactor, printable

TRIAL_ERRORS = (Exception, SystemExit)
"""Errors that the code of a trial may raise. `sys.exit()` in a trial ends that trial, not the sweep."""

LONGEST_REASON = 1000
"""Characters of an error's message in a trial's record. `launch.log` has all of them."""

OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|(CUDA|HIP)( driver)?( error:)? out of memory|_STATUS_ALLOC_FAILED")
"""A GPU without free memory, in a description of an error: PyTorch's allocator has a class for it, libraries such as cuBLAS raise a
RuntimeError."""

_STDLIB = f"{os.path.dirname(os.__file__)}{os.sep}"
_PACKAGE = f"{os.path.dirname(__file__)}{os.sep}"


class InterruptSignal(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ends the sweep. A KeyboardInterrupt of another class was raised by the code of a trial."""


def raise_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Signal handler that raises InterruptSignal."""
    raise InterruptSignal


class TrialTimeout(Exception):
    """A trial was ended by `trial_timeout_s` or `stall_timeout_s`. The message names the limit and the trial's last lines."""


def out_of_memory(error: BaseException) -> bool:
    """True if a GPU has no free memory. The same code may then run with more of the GPU."""
    return isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(f"{type(error).__name__}: {message_of(error)}"))


def error_line(error: BaseException) -> str:
    """Type and first line of an error."""
    lines = message_of(error).splitlines()
    return f"{type(error).__name__}: {_one_line(lines[0])[:200] if lines else 'no message'}"


def error_place(error: BaseException) -> str:
    """Type, message, file and line of an error, as one line. The message alone of a timeout, which names them itself.

    The line is the last one of the user's code, or else of ddl's, rather than that of a library which it calls.
    """
    if isinstance(error, TrialTimeout):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    outside = [
        frame for frame in frames if not (frame.filename.startswith(_STDLIB) or re.search("<frozen|(site|dist)-packages", frame.filename))
    ]
    own = [frame for frame in outside if not frame.filename.startswith(_PACKAGE)]
    frame = (own or outside or frames)[-1]
    return f"{type(error).__name__}: {_one_line(message_of(error))} ({Path(frame.filename).name}:{frame.lineno})"


def message_of(error: BaseException) -> str:
    """The error's message without secrets, also if its own `__str__` raises."""
    return Redactor().text(str(traceback.TracebackException.from_exception(error)).strip())


def _one_line(text: str) -> str:
    """The text in one line of at most `LONGEST_REASON` characters, without those that a terminal would obey."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."
