"""Standard output and error of a command that outlives their reader: a closed terminal or pipe, a full disk."""

import errno
import os
import stat
import sys
from typing import TextIO


def open_closed_streams() -> None:
    """Connect standard streams that were closed when the process began to the null device.

    Otherwise the next file that is opened, such as a ledger, gets their number, and with it what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it has the lowest free number
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


class CannotPrint(Exception):
    """Standard output cannot be written, for another reason than that its reader has ended."""


def say(*texts: object, end: str = "\n") -> None:
    """Print texts to standard output, a line each, at once. A reader that has ended, as `head` does, and a closed terminal are no errors.

    Raises CannotPrint.
    """
    try:
        print(*texts, sep="\n", end=end, flush=True)
    except OSError as error:
        closed_terminal = error.errno == errno.EIO and stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode)
        _discard(sys.stdout)
        if not (isinstance(error, BrokenPipeError) or closed_terminal):
            raise CannotPrint(f"standard output cannot be written: {error.strerror}") from error


def complain(*texts: object) -> None:
    """Print texts to standard error, a line each, at once. If it cannot be written, as after its terminal closed, they are lost: the exit
    status of the command says the same."""
    try:
        print(*texts, sep="\n", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def flush_or_discard(stream: TextIO) -> str:
    """Flush a stream. If that fails, discard what is written to it from now on, and return the reason."""
    try:
        stream.flush()
    except OSError as error:
        _discard(stream)
        return error.strerror or str(error)
    return ""


def _discard(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
    stream.flush()


class UntilItBreaks:
    """A text stream for `rich`, whose text is discarded once it cannot be written. The reason is then printed to standard error, once."""

    encoding = "utf-8"

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, if that is still possible."""
        try:
            self._stream.write(text)
        except OSError as error:  # of a text that is longer than the buffer
            _discard(self._stream)
            self._say_so(error.strerror or str(error))
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, if that is still possible."""
        if reason := flush_or_discard(self._stream):
            self._say_so(reason)

    def _say_so(self, reason: str) -> None:
        complain(f"standard output cannot be written any more ({reason}). The sweep continues.")

    def isatty(self) -> bool:
        """True for a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The number of the stream's file."""
        return self._stream.fileno()
