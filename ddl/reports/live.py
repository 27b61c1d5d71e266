"""The report while the sweep runs: rewritten every so often, at a small share of the sweep's time, and never its undoing."""

import time
import traceback
from collections.abc import Sequence
from pathlib import Path

EVERY_S = 20.0

SHARE = 0.01
"""Of the sweep's time that may go into building reports."""


class LiveReport:
    """Rewrites the report on one or several runs when it is asked and it is time. What goes wrong is printed, and the sweep goes on."""

    def __init__(self, folders: Sequence[Path], path: Path):
        """The runs in `folders` go into one report, at `path`."""
        self._folders, self._path = folders, path
        self._due = time.monotonic() + EVERY_S

    def refresh(self) -> None:
        """Write the report if the last one is old enough: after `EVERY_S`, or later where building one takes long."""
        if time.monotonic() < self._due:
            return
        from ddl.reports import html, model  # not counted: the report at the end needs them too

        began = time.monotonic()
        try:
            report = model.build_report(self._folders)
            expected_s = max(EVERY_S, (time.monotonic() - began) / SHARE)
            html.write_html(report, self._path, refresh_s=expected_s)
        except Exception:  # noqa: BLE001  a full disk, or a mistake of ours: into the log, whatever it is; the trials matter more
            print("the report could not be written while the sweep runs:", flush=True)
            traceback.print_exc()
        now = time.monotonic()
        self._due = now + max(EVERY_S, (now - began) / SHARE)
