"""Time limits of a trial: `trial_timeout_s` for an attempt, and `stall_timeout_s` without a sign of life."""

import ctypes
import faulthandler
import math
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Self, TextIO, TypeVar

from ddl.trial_errors import TrialTimeout

INTERRUPT_S = 5.0
"""Seconds that a trial has to end after it was interrupted. Code outside Python, such as a kernel, cannot be interrupted."""

LONGEST_WAIT_S = 3600.0
"""Seconds that the watching thread waits at most: Python refuses to wait for centuries."""

SHOWN_FRAMES = 3
"""Number of the innermost frames that the message names."""

HANG_FILE = "hang.txt"
"""File in a trial's folder to which its process writes the stack of a trial that holds Python's global lock."""

_Result = TypeVar("_Result")

_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = ctypes.c_ulong, ctypes.py_object


class _OutOfTime(BaseException):
    """Raised in the trial's thread. Not an Exception, because code of a trial may catch those and continue."""


class TimeLimits:
    """A context manager around a trial that a thread watches, if it has limits. `step` runs the trial's own code.

    The limits apply inside `step` only: time that the driver takes to record a report is no time without a sign of life. A trial that
    exceeds one is interrupted and raises TrialTimeout, and its stack is printed. If it still has not ended after `INTERRUPT_S`, it hangs outside Python;
    then `give_up` is called in the watching thread with the message, and `step` does not return any more. If it also holds Python's global
    lock, no thread can act; then the process ends after writing the stacks of all threads to `log`.
    """

    def __init__(
        self,
        trial_s: float | None = None,
        stall_s: float | None = None,
        give_up: Callable[[str], None] | None = None,
        log: TextIO | None = None,
        advice: str = "",
    ):
        """`trial_s` and `stall_s` in seconds, None for no limit. `advice` ends the message. Without `give_up` and
        `log`, a trial that hangs outside Python continues to hang."""
        self._trial_s, self._stall_s = trial_s or math.inf, stall_s or math.inf
        self._give_up, self._log, self._advice = give_up, log, advice
        self._watched = bool(trial_s or stall_s)
        self._lock, self._left, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._inside = self._giving_up = False
        self._message = self._last_stack = ""

    def __enter__(self) -> Self:
        if not self._watched:
            return self
        self._began = self._step_began = time.monotonic()
        self._trial_thread = threading.current_thread()
        self._in_main_thread = self._trial_thread is threading.main_thread() and hasattr(signal, "pthread_kill")
        if self._in_main_thread:
            self._handler_before = signal.signal(signal.SIGALRM, self._interrupt_main_thread)
        self._watcher = threading.Thread(target=self._watch, name="time-limits", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._watched:
            self._ended.set()
            self._watcher.join()
            if self._in_main_thread:
                signal.signal(signal.SIGALRM, self._handler_before)

    def step(self, advance: Callable[[], _Result]) -> _Result:
        """The result of `advance`. Raises TrialTimeout if a limit was exceeded, whatever the trial has made of the interruption."""
        if not self._watched:
            return advance()
        try:
            self._enter_step()
            try:
                return advance()
            finally:
                self._leave_step()
        except _OutOfTime:  # the interruption arrived in `_leave_step`
            self._leave_step()
            raise

    def _enter_step(self) -> None:
        with self._lock:
            self._step_began = time.monotonic()
            self._inside = True

    def _leave_step(self) -> None:
        with self._lock:
            self._inside = False
        if self._giving_up:  # the process is about to end
            threading.Event().wait()
        if self._message:
            if not self._in_main_thread:  # it may have left the step before the interruption arrived
                _set_exception(self._thread_id, ctypes.py_object())
            self._left.set()
            raise TrialTimeout(self._message)

    @property
    def _thread_id(self) -> int:
        assert self._trial_thread.ident is not None
        return self._trial_thread.ident

    def _watch(self) -> None:
        try:
            ended = self._wait_for_end()
        finally:
            if self._log is not None:
                faulthandler.cancel_dump_traceback_later()
        if ended:
            return
        with self._lock:
            if not self._inside:
                return
            self._giving_up = self._give_up is not None
        print("It hangs outside Python.", file=sys.stderr, flush=True)
        if self._give_up is not None:
            self._give_up(self._message)

    def _wait_for_end(self) -> bool:
        """Wait for the end of the trial, and interrupt it once it exceeds a limit. False if that does not end it."""
        while not self._ended.wait(self._next_look_s()):
            with self._lock:
                due = self._inside and self._until_due_s() <= 0
                if due:
                    self._interrupt()
            if due:
                left = self._left.wait(INTERRUPT_S)
                # Only now, because the trial may have been interrupted while it held the lock of standard error.
                print(f"{self._message}\nIts last stack:\n{self._last_stack}", file=sys.stderr, flush=True)
                return left
        return True

    def _next_look_s(self) -> float:
        wait_s = self._until_due_s()
        if self._log is not None:  # a thread outside Python, which needs no lock, ends the process unless this one looks in time
            faulthandler.dump_traceback_later(wait_s + 2 * INTERRUPT_S, exit=True, file=self._log)
        return wait_s

    def _until_due_s(self) -> float:
        """Seconds until a limit may be exceeded; a limit that passes between two steps is looked at again after a moment."""
        now = time.monotonic()
        if self._inside:
            return max(min(self._step_began + self._stall_s - now, self._began + self._trial_s - now, LONGEST_WAIT_S), 0.0)
        return max(min(self._stall_s, self._began + self._trial_s - now, LONGEST_WAIT_S), 0.05)

    def _interrupt(self) -> None:
        """Raise `_OutOfTime` in the trial's thread. A signal also interrupts system calls, but only the main thread receives it."""
        stalled = time.monotonic() - self._step_began >= self._stall_s
        limit = f"no sign of life for {self._stall_s:g} s" if stalled else f"it took longer than trial_timeout_s={self._trial_s:g}"
        stack = self._stack()
        self._last_stack = "".join(traceback.format_list(stack))
        frames = [(frame.filename, frame.lineno or 0, frame.name) for frame in reversed(stack)]
        self._message = f"{limit}, at {_last_lines(frames)}{self._advice}"
        if self._in_main_thread:
            signal.pthread_kill(self._thread_id, signal.SIGALRM)
        else:
            _set_exception(self._thread_id, _OutOfTime)

    def _interrupt_main_thread(self, number: int, frame: FrameType | None) -> None:
        if self._inside and self._message:
            raise _OutOfTime

    def _stack(self) -> list[traceback.FrameSummary]:
        """The stack of the trial's own code, innermost frame last."""
        stack = traceback.extract_stack(sys._current_frames()[self._thread_id])
        own = [index for index, frame in enumerate(stack) if frame.filename == __file__]
        return stack[own[-1] + 1 :] if own else list(stack)


@contextmanager
def hang_log(folder: Path) -> Iterator[TextIO]:
    """`HANG_FILE` in a trial's folder, for the `log` of `TimeLimits` in this thread. Removed at the end, unless the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / HANG_FILE
    with path.open("w", encoding="utf-8") as log:
        try:
            print(f"{threading.get_ident():#018x}", file=log, flush=True)
            yield log
        finally:
            path.unlink()


def read_hang(folder: Path) -> str:
    """The reason of a trial whose process was ended because it held Python's global lock; empty for any other. Removes `HANG_FILE`."""
    path = folder / HANG_FILE
    if not path.is_file():
        return ""
    thread, _, stacks = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    path.unlink()
    if not stacks:
        return ""
    stack = stacks.partition(f"Thread {thread}")[2].partition("\n\n")[0]
    frames = [(file, int(line), name) for file, line, name in re.findall(r'File "(.*)", line (\d+) in (.*)', stack)]
    own = [index for index, (file, _, _) in enumerate(frames) if file == __file__]
    return f"no sign of life, and Python's global lock was held, at {_last_lines(frames[: own[0]] if own else frames)}"


def _last_lines(frames: Sequence[tuple[str, int, str]]) -> str:
    """The innermost of `frames`, each as file, line and function, innermost first."""
    return ", called at ".join(f"{Path(file).name}:{line} in {name}" for file, line, name in frames[:SHOWN_FRAMES])
