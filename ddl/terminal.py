"""Progress of a sweep: a live table on a terminal, plain lines elsewhere."""

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ddl.plan_lines import aligned_table
from ddl.sweeps.plan import makespan
from ddl.trial_report import TrialReport
from ddl.units import duration

RUNNING_ROWS = 16
LINE_EVERY_S = 10


@dataclass
class _RunningTrial:
    """A running trial: its last report, and the time and step at which this attempt began."""

    report: TrialReport
    began: float
    began_step: int
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def steps_per_s(self) -> float:
        return (self.report.step - self.began_step) / max(time.monotonic() - self.began, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Expected seconds to the end; None before the first step, and if the number of steps is unknown."""
        speed = self.steps_per_s
        return max(self.report.total_steps - self.report.step, 0) / speed if speed > 0 and self.report.total_steps else None

    @property
    def place(self) -> str:
        """Step and number of steps as text."""
        step, total = self.report.step, self.report.total_steps
        return f"{step}/{total}" if total else str(step) if step else "starting"


@dataclass(frozen=True)
class DisplayedTrial:
    """A trial as displayed.

    `metric` is the name of the compared metric, `measured` its value from an earlier run. `stacked` trials are trained as one model;
    `expected_s` is the expected duration of all of them, divided by their number; 0 if it is unknown.
    """

    name: str
    seed: int
    metric: str
    expected_s: float
    measured: float | None = None
    stacked: int = 1


class ProgressDisplay:
    """Shows the progress of a sweep. A context manager; `update` takes each report after it is recorded."""

    def __init__(self, console: Console, trials: Mapping[str, DisplayedTrial], to_add: int, done: int, concurrent: int):
        """`trials` by id will run now, at most `to_add` more will be added by `add`, `done` ended in an earlier run."""
        self._console, self._concurrent = console, concurrent
        self._trials = dict(trials)
        self._to_add, self._done = to_add, done
        self._total = len(trials) + to_add + done
        self._waiting = dict.fromkeys(self._trials)
        self._running: dict[str, _RunningTrial] = {}
        self._ended_s: list[float] = []
        self._began = time.monotonic()
        self._last_line = 0.0
        self._live = (
            Live(console=console, get_renderable=self._render, refresh_per_second=2, transient=True) if can_redraw(console) else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._live:
            self._live.__exit__(*exception)

    def add(self, trial_id: str, displayed: DisplayedTrial) -> None:
        """Add a trial."""
        self._trials[trial_id] = displayed
        self._waiting[trial_id] = None
        self._to_add -= 1

    def will_add(self, most: int) -> None:
        """Take the largest number of trials that may still be added."""
        self._total += most - self._to_add
        self._to_add = most

    def update(self, report: TrialReport) -> None:
        """Show a report: every end of a trial is a line; without a terminal, progress is a line at most every 10 s.

        The last step has none, because the line of the trial's end follows it.
        """
        trial_id, trial = report.trial_id, self._trials[report.trial_id]
        self._waiting.pop(trial_id, None)
        if report.kind == "started" or trial_id not in self._running:
            known = {} if trial.measured is None else {trial.metric: trial.measured}
            self._running[trial_id] = _RunningTrial(report, time.monotonic(), report.step, known)
        running = self._running[trial_id]
        running.report = report
        running.metrics |= report.metrics
        name, metric = f"{trial.name} seed {trial.seed}", _metric_text(running, trial)
        if report.kind == "ended":
            self._running.pop(trial_id)
            self._ended_s.append(time.monotonic() - running.began)
            self._done += 1
            reason = f": {report.reason}" if report.reason else ""
            self._line(f"{name} {report.status}{metric} after {duration(report.elapsed_s)}{reason}")
        elif report.kind == "out_of_memory":
            self._line(f"{name} {report.reason}")
        elif (
            not 0 < report.total_steps <= report.step
            and report.kind != "started"
            and not self._live
            and time.monotonic() - self._last_line >= LINE_EVERY_S
        ):
            epoch = "" if report.epoch is None else f" epoch {report.epoch},"
            self._line(f"{name}{epoch} step {running.place}{metric}{_left(self._left_s(), '; ')}")

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(Text(f"[{self._done}/{self._total}] {text}"), soft_wrap=True)

    def _left_s(self) -> float:
        """Expected seconds to the end of the sweep: running trials at their own speed, the others as planned.

        A trial of unknown duration is expected to take as long as those that have ended. NaN if none has.
        """
        ended_s = statistics.mean(self._ended_s or [math.nan])
        expected_s = {trial_id: trial.expected_s or ended_s for trial_id, trial in self._trials.items()}
        mean_s = statistics.mean(list(expected_s.values()) or [ended_s])  # a search begins without a trial
        running = [
            expected_s[trial_id] if row.left_s is None else row.left_s / self._trials[trial_id].stacked
            for trial_id, row in self._running.items()
        ]
        seconds = [*running, *(expected_s[trial_id] for trial_id in self._waiting), *[mean_s] * self._to_add]
        return math.nan if any(map(math.isnan, seconds)) else makespan(seconds, self._concurrent)

    def _render(self) -> Table:
        metrics = list(dict.fromkeys(trial.metric for trial in self._trials.values()))
        one_metric = len(metrics) == 1
        table = aligned_table(
            "configuration", "seed", right=("epoch", "step", f"last {metrics[0]}" if one_metric else "last metric", "steps/s", "left")
        )
        now = duration(time.monotonic() - self._began)
        table.title = f"{self._done} of {self._total} trials ended, {now} so far{_left(self._left_s(), ', ')}"
        for trial_id, row in list(self._running.items())[:RUNNING_ROWS]:
            trial, report, left_s = self._trials[trial_id], row.report, row.left_s
            value = row.metrics.get(trial.metric)
            table.add_row(
                Text(trial.name),
                str(trial.seed),
                "" if report.epoch is None else str(report.epoch),
                row.place,
                "" if value is None else f"{value:.4g}" if one_metric else f"{trial.metric} {value:.4g}",
                f"{row.steps_per_s:.1f}" if row.steps_per_s else "",
                "" if left_s is None else duration(left_s),
            )
        return table


def _left(seconds: float, separator: str) -> str:
    return "" if math.isnan(seconds) else f"{separator}about {duration(seconds)} left"


def _metric_text(running: _RunningTrial, trial: DisplayedTrial) -> str:
    value = running.metrics.get(trial.metric)
    return "" if value is None else f", last {trial.metric} {value:.4g}"


def can_redraw(console: Console) -> bool:
    """True if the console can change what it has printed. A dumb terminal (`TERM=dumb`, as in Emacs) cannot."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def show_activity(console: Console, text: str) -> Iterator[None]:
    """Show `text`, on a terminal with a spinner while the block runs."""
    if can_redraw(console):
        with console.status(Text(text)):
            yield
    else:
        console.print(text)
        yield
