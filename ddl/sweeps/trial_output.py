"""The output of a trial's code: each line goes to `launch.log` with the trial's id, up to a bound."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

from ddl.redaction import Redactor, printable

Result = TypeVar("Result")
"""Type of the result of code that is run."""

MAX_CHARACTERS = 16_000_000
"""Characters that a trial may print in one attempt; more are dropped."""

LONGEST_LINE = 64_000
"""Characters of an unfinished line, such as a progress bar's, after which it is written as it is."""


@contextmanager
def trial_output(name: str, log: Path | None) -> Iterator["TrialOutput"]:
    """Append what code prints in `TrialOutput.run` to `log`, or pass it on to standard output if that is None.

    Both of Python's streams go through it, so their lines keep their order. Each line begins with `name`, and secrets are withheld. Ray's own
    way from a worker to the log loses lines that are printed shortly before the sweep ends.
    """
    with nullcontext(sys.stdout) if log is None else log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        output = TrialOutput(file, name, sys.stdout)
        try:
            yield output
        finally:
            output.finish()
            if log is not None:
                with suppress(OSError):  # what a full disk did not take
                    file.close()


class TrialOutput(io.TextIOBase):
    """Writes whole lines to `file`, so that those of several processes do not mix, and drops what exceeds `MAX_CHARACTERS`.

    After `finish`, a logger that the trial has set up writes to `later`.
    """

    def __init__(self, file: TextIO, name: str, later: TextIO):
        self._file, self._name, self._later = file, name, later
        self._line, self._left, self._dropped = "", MAX_CHARACTERS, 0
        self._streams: tuple[Any, Any] = (self, self)
        self._redactor = Redactor()

    def run(self, code: Callable[[], Result]) -> Result:
        """The result of `code`, which prints to this. The driver may print between two steps of a trial, and is not redirected.

        If the code replaces the streams, it finds its own again in the next call.
        """
        outside = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._streams
        try:
            return code()
        finally:
            self._streams = sys.stdout, sys.stderr
            sys.stdout, sys.stderr = outside

    def write(self, text: str) -> int:
        """Write the lines that end in `text`. Returns its length."""
        kept = text[: self._left]
        self._left -= len(kept)
        self._dropped += len(text) - len(kept)
        *lines, self._line = (self._line + kept).split("\n")
        if len(self._line) > LONGEST_LINE:
            lines, self._line = [*lines, self._line], ""
        self._write(lines)
        return len(text)

    def fileno(self) -> int:
        """The file's descriptor, for processes that the trial starts."""
        return self._file.fileno()

    def finish(self) -> None:
        """Write the last line, and how much was dropped."""
        dropped = [f"{self._dropped:,} more characters of this trial's output were dropped."] if self._dropped else []
        self._write([*filter(None, [self._line]), *dropped])
        self._line, self._file = "", self._later

    def _write(self, lines: list[str]) -> None:
        if lines:
            # Redacted before it is split: a private key has several lines.
            shown = self._redactor.text("\n".join(lines)).split("\n")
            # A full disk loses lines of the log. It does not make the code of a trial fail, which only prints.
            with suppress(OSError):
                self._file.write("".join(f"{self._name}: {_printable_line(line)}\n" for line in shown))
                self._file.flush()


def _printable_line(line: str) -> str:
    return "\t".join(map(printable, line.split("\t")))
