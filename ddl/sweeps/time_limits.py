"""Time limits of a trial: `trial_timeout_s` for an attempt, and `stall_timeout_s` without a sign of life."""

import ctypes
import math
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Self, TypeVar

from ddl.trial_errors import TrialTimeout

INTERRUPT_S = 5.0
"""Seconds that a trial has to end after it was interrupted. Code outside Python, such as a kernel, cannot be interrupted."""

LONGEST_WAIT_S = 3600.0
"""Seconds that the watching thread waits at most: Python refuses to wait for centuries."""

SHOWN_FRAMES = 3
"""Number of the innermost frames that the message names."""

_Result = TypeVar("_Result")

_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = ctypes.c_ulong, ctypes.py_object


class _OutOfTime(BaseException):
    """Raised in the trial's thread. Not an Exception, because code of a trial may catch those and continue."""


class TimeLimits:
    """A context manager around a trial that a thread watches, if it has limits. `step` runs the trial's own code.

    The limits apply inside `step` only: time that the driver takes to record a report is no time without a sign of life. A trial that
    exceeds one is interrupted and raises TrialTimeout. If it still has not ended after `INTERRUPT_S`, it hangs outside Python;
    then `give_up` is called in the watching thread with the message, and `step` does not return any more.
    """

    def __init__(
        self,
        trial_s: float | None = None,
        stall_s: float | None = None,
        give_up: Callable[[str], None] | None = None,
        advice: str = "",
    ):
        """`trial_s` and `stall_s` in seconds, None for no limit. `advice` ends the message. Without `give_up` a trial that
        hangs outside Python continues to hang."""
        self._trial_s, self._stall_s = trial_s or math.inf, stall_s or math.inf
        self._give_up, self._advice = give_up, advice
        self._watched = bool(trial_s or stall_s)
        self._lock, self._left, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._inside = self._giving_up = False
        self._message = ""

    def __enter__(self) -> Self:
        if not self._watched:
            return self
        self._began = self._step_began = time.monotonic()
        self._trial_thread = threading.current_thread()
        self._in_main_thread = self._trial_thread is threading.main_thread() and hasattr(signal, "pthread_kill")
        if self._in_main_thread:
            self._handler_before = signal.signal(signal.SIGALRM, self._interrupt_main_thread)
        threading.Thread(target=self._watch, name="time-limits", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._watched:
            self._ended.set()
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
            if not self._in_main_thread:
                _set_exception(
                    self._thread_id, ctypes.py_object()
                )  # withdraws it: the trial may have ended before the interruption arrived
            self._left.set()
            raise TrialTimeout(self._message)

    @property
    def _thread_id(self) -> int:
        assert self._trial_thread.ident is not None
        return self._trial_thread.ident

    def _watch(self) -> None:
        while not self._ended.wait(self._until_due_s()):
            with self._lock:
                if self._inside and self._until_due_s() <= 0:
                    self._interrupt()
                    break
        else:
            return
        if self._left.wait(INTERRUPT_S):
            return
        with self._lock:
            if not self._inside:
                return
            self._giving_up = self._give_up is not None
        stack = "".join(traceback.format_list(self._stack()))
        print(f"{self._message}\nIt hangs outside Python. Its last stack:\n{stack}", file=sys.stderr, flush=True)
        if self._give_up is not None:
            self._give_up(self._message)

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
        frames = self._stack()[: -SHOWN_FRAMES - 1 : -1]
        lines = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
        self._message = f"{limit}, at {', called at '.join(lines)}{self._advice}"
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
