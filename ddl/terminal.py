"""What the user sees while a sweep runs: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ddl.sweeps.plan import Plan, makespan
from ddl.sweeps.space import Trial
from ddl.trial_report import TrialReport
from ddl.units import duration, size

PLAN_ROWS = 30
RUNNING_ROWS = 16


def show_plan(console: Console, plan: Plan, trials: Sequence[Trial], to_sample: int) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("trial", "configuration", "seed"):
        table.add_column(column)
    for column in ("steps", "steps/s", "expected"):
        table.add_column(column, justify="right")
    for trial in trials[:PLAN_ROWS]:
        probe = plan.probes.get(trial.configuration)
        measured = (
            (str(probe.total_steps), f"{1 / probe.step_s:.1f}" if probe.step_s else "", duration(probe.trial_s)) if probe else ("", "", "")
        )
        table.add_row(trial.trial_id, Text(trial.configuration), str(trial.task.seed), *measured)
    console.print(table)
    if len(trials) > PLAN_ROWS:
        console.print(f"... and {len(trials) - PLAN_ROWS} more trials")
    if to_sample:
        console.print(f"{to_sample} trials, drawn as the sweep goes; above, the ends of the space, as they were timed")
    allocation, capacity = plan.allocation, plan.capacity
    gpus = f", {allocation.gpus:g} of {capacity.gpus} GPUs" if capacity.gpus else ""
    nodes = f" on {capacity.nodes} nodes" if capacity.nodes > 1 else ""
    number = (
        f"{allocation.min_workers} to {allocation.num_workers}"
        if allocation.min_workers < allocation.num_workers
        else f"{allocation.num_workers}"
    )
    workers = f"{number} workers ({allocation.strategy}), each with " if allocation.num_workers > 1 else ""
    console.print(f"each trial: {workers}{allocation.cpus} of {capacity.cpus} CPU cores{gpus}{nodes}; {allocation.concurrent} at a time")
    for line in dict.fromkeys(describe_data_line(probe.metadata) for probe in plan.probes.values()):
        console.print(Text(line)) if line else None
    if plan.precision:
        console.print(f"precision: {plan.precision} (the fastest of those that agree with fp32)")
    probed = f"probed {len(plan.probes)} of {len({t.configuration for t in trials})} configurations"
    disk = f"{size(plan.disk_bytes)} of {size(plan.free_bytes)} free" if plan.disk_bytes else "not known"
    console.print(f"expected: {duration(plan.eta_s)} ({probed}); disk: {disk}")


def describe_data_line(metadata: Mapping[str, Any]) -> str:
    """Names the data, loudly where it is a part or a stand-in."""
    data = metadata.get("data")
    if not data:
        return ""
    line = f"data: {data['name']}, {data['source']}, {data.get('train', '?')} train and {data.get('val', '?')} validation examples"
    if data.get("fallback_for"):
        return f"{line}. A STAND-IN for {data['fallback_for']}"
    return line if data.get("complete") else f"{line}. A SAMPLE, not the whole data set"


@dataclass
class _Row:
    report: TrialReport
    began: float
    began_step: int
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def steps_per_s(self) -> float:
        return (self.report.step - self.began_step) / max(time.monotonic() - self.began, 1e-9)

    @property
    def left_s(self) -> float | None:
        """None until it has moved."""
        speed = self.steps_per_s
        return (self.report.total_steps - self.report.step) / speed if speed > 0 else None


@dataclass(frozen=True)
class DisplayedTrial:
    """A trial as it is shown: its name, the metric that it is compared by, how long it is expected to last, and what an earlier
    run of the sweep measured of it last."""

    name: str
    seed: int
    metric: str
    expected_s: float
    measured: float | None = None


class ProgressDisplay:
    """The whole sweep's progress, fed with each report after it is recorded. A context manager."""

    def __init__(self, console: Console, trials: Mapping[str, DisplayedTrial], to_sample: int, done: int, concurrent: int):
        """`trials` are those to run now, by id; `to_sample` more will come (`add`); `done` ended in an earlier run."""
        self._console, self._concurrent = console, concurrent
        self._trials = dict(trials)
        self._to_draw, self._done = to_sample, done
        self._total = len(trials) + to_sample + done
        self._waiting = dict.fromkeys(self._trials)
        self._rows: dict[str, _Row] = {}
        self._began = time.monotonic()
        self._last_line = 0.0
        self._live = (
            Live(console=console, get_renderable=self._render, refresh_per_second=2, transient=True) if console.is_terminal else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.__exit__(kind, error, trace)

    def add(self, trial_id: str, shown: DisplayedTrial) -> None:
        """One of those that were still to be drawn."""
        self._trials[trial_id] = shown
        self._waiting[trial_id] = None
        self._to_draw -= 1

    def update(self, report: TrialReport) -> None:
        trial = self._trials[report.trial_id]
        name = f"{trial.name} seed {trial.seed}"
        if report.kind == "started":
            self._waiting.pop(report.trial_id, None)
            self._rows[report.trial_id] = self._row(report)
            return
        row = self._rows.setdefault(report.trial_id, self._row(report))
        row.report = report
        row.metrics |= report.metrics
        if report.kind == "ended":
            self._rows.pop(report.trial_id)
            self._waiting.pop(report.trial_id, None)
            self._done += 1
            reason = f": {report.reason}" if report.reason else ""
            self._line(
                f"[{self._done}/{self._total}] {name} {report.status}{self._measured(row, trial)} after {duration(report.elapsed_s)}{reason}"
            )
        elif not self._live and time.monotonic() - self._last_line >= 10:
            self._line(
                f"[{self._done}/{self._total}] {name}{_epoch(report)}{self._measured(row, trial)}; about {duration(self._left())} left"
            )

    def _row(self, report: TrialReport) -> _Row:
        trial = self._trials[report.trial_id]
        return _Row(report, time.monotonic(), report.step, {} if trial.measured is None else {trial.metric: trial.measured})

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(Text(text), soft_wrap=True)

    @staticmethod
    def _measured(row: _Row, trial: DisplayedTrial) -> str:
        value = row.metrics.get(trial.metric)
        return "" if value is None else f", {trial.metric} {value:.4g}"

    def _left(self) -> float:
        """Seconds: the running trials to their ends by their own speed, then the waiting ones by the plan's."""
        mean = sum(trial.expected_s for trial in self._trials.values()) / max(len(self._trials), 1)
        running = [self._trials[trial_id].expected_s if row.left_s is None else row.left_s for trial_id, row in self._rows.items()]
        waiting = [self._trials[trial_id].expected_s for trial_id in self._waiting]
        return makespan([*running, *waiting, *[mean] * self._to_draw], self._concurrent)

    def _render(self) -> Table:
        now = duration(time.monotonic() - self._began)
        table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="bold")
        table.title = f"{self._done} of {self._total} trials ended, {now} so far, about {duration(self._left())} left"
        for column in ("configuration", "seed"):
            table.add_column(column)
        metrics = list(dict.fromkeys(trial.metric for trial in self._trials.values()))
        for column in ("epoch", "step", metrics[0] if len(metrics) == 1 else "metric", "steps/s", "left"):
            table.add_column(column, justify="right")
        for trial_id, row in list(self._rows.items())[:RUNNING_ROWS]:
            trial, report, left_s = self._trials[trial_id], row.report, row.left_s
            value = row.metrics.get(trial.metric)
            table.add_row(
                Text(trial.name),
                str(trial.seed),
                "" if report.epoch is None else str(report.epoch),
                f"{report.step}/{report.total_steps}" if report.total_steps else "starting",
                "" if value is None else f"{value:.4g}" if len(metrics) == 1 else f"{trial.metric} {value:.4g}",
                f"{row.steps_per_s:.1f}" if row.steps_per_s else "",
                "" if left_s is None else duration(left_s),
            )
        return table


def _epoch(report: TrialReport) -> str:
    return (
        f" step {report.step}/{report.total_steps}"
        if report.epoch is None
        else f" epoch {report.epoch}, step {report.step}/{report.total_steps}"
    )


@contextmanager
def show_activity(console: Console, what: str) -> Iterator[None]:
    """Says what takes its time, where someone may be watching."""
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        yield
