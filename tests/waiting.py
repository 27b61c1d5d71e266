"""Waiting for another process: no test expects anything within a time, because machines differ."""

import time
from collections.abc import Callable

HANG_S = 300.0
"""Seconds after which what is waited for is taken to hang."""


def wait_until(condition: Callable[[], object], what: str) -> None:
    ends = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < ends, f"not within {HANG_S:g} s: {what}"
        time.sleep(0.05)
