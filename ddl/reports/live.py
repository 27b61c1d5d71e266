"""The report while the sweep runs: rewritten regularly, with a small fraction of the sweep's time."""

import contextlib
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

EVERY_S = 20.0

FRACTION = 0.01
"""Largest fraction of the sweep's time that goes into reports."""


class LiveReport:
    """Rewrites the report on one or several runs when it is due. Errors are printed and do not stop the sweep."""

    def __init__(self, folders: Sequence[Path], path: Path):
        """`folders` are the runs of the report, `path` is its file."""
        self._folders, self._path = folders, path
        self._due = time.monotonic() + EVERY_S

    def refresh(self) -> None:
        """Write the report if `EVERY_S` have passed since the last one, or more time if building it takes long."""
        if time.monotonic() < self._due:
            return
        from ddl.reports import html, model  # not timed: the final report needs them too

        began = time.monotonic()
        try:
            report = model.build_report(self._folders)
            expected_s = max(EVERY_S, (time.monotonic() - began) / FRACTION)
            html.write_html(report, self._path, refresh_s=expected_s)
        except Exception:  # noqa: BLE001  a full disk or a bug in the report must not stop the trials
            with contextlib.suppress(OSError):  # the log cannot be written either
                print("the report could not be written; the sweep continues:", flush=True)
                traceback.print_exc()
        now = time.monotonic()
        self._due = now + max(EVERY_S, (now - began) / FRACTION)
