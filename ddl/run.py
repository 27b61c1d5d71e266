"""A sweep from its name to its report: what the command does, as a library."""

import contextlib
import importlib
import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from ddl import config, provenance
from ddl.config import ConfigError
from ddl.console import followed, quiet, signals, terminal
from ddl.ledger import Ledger, Reader, TrialRow
from ddl.schema import Launch, Metric
from ddl.sweeps import plan as planning
from ddl.sweeps import space
from ddl.sweeps.executors import Executor, InlineExecutor, local_capacity
from ddl.sweeps.space import Trial
from ddl.tasks.task import Task
from ddl.terminal import Progress, duration, show_plan, waiting

if TYPE_CHECKING:
    import pandas as pd

EXECUTORS = ("ray", "inline")


@dataclass(frozen=True)
class Run:
    """A run's folder and what can be read from it."""

    folder: Path

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def results(self) -> "pd.DataFrame":
        """One row a trial: trial_id, configuration, status, seed, each swept key, each final metric."""
        from ddl.reports import results

        return results.frame(self.folder)

    @property
    def trials(self) -> list[TrialRow]:
        return Reader(self.folder).trials()

    @property
    def failed(self) -> list[TrialRow]:
        return [trial for trial in self.trials if trial.status == "failed"]


class Interrupted(Exception):
    """The sweep was asked to stop (Ctrl-C, SIGTERM) and has left a run that can be resumed: `folder`."""

    def __init__(self, folder: Path):
        super().__init__(f"interrupted; go on with: {resume_command(folder)}")
        self.folder = folder


@dataclass(frozen=True)
class _Job:
    """What is left to do of a run, fresh or resumed."""

    name: str
    launch: Launch
    metric: Metric
    executor: str
    address: str | None
    trials: Sequence[Trial]
    earlier: int
    precision: str | None
    share: planning.Share | None
    history: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


def default_scale() -> tuple[str, str]:
    """(scale, why) where none is asked for."""
    if torch.cuda.is_available():
        return "paper", "a GPU was found"
    return "sample", "no GPU was found; --scale paper runs the study's own size"


def run_sweep(
    sweep: str,
    overrides: Sequence[str] = (),
    scale: str | None = None,
    executor: str = "ray",
    address: str | None = None,
    out: Path | str = "runs",
    command: str = "",
) -> Run:
    """Train every configuration of a sweep, named or in a YAML file, and write the report.

    `overrides` are Hydra's (`["task.lr=0.01", "seeds=5"]`), `scale` is smoke, sample or paper, `executor` is ray or inline,
    `address` that of a running Ray cluster. `command` is what stands in the report as the way to run it again. Raises
    ConfigError, with every mistake, before anything starts or is written; Interrupted after Ctrl-C.
    """
    with terminal() as console:
        job, request = _compose(console, sweep, overrides, scale, executor, address)
        folder = _new_folder(Path(out), job.name)
        given = command or f"ddl.run_sweep({sweep!r}, overrides={list(overrides)!r}, scale={request['scale']!r})"
        about = (
            request
            | provenance.code()
            | {
                "command": given,
                "resume": resume_command(folder),
                "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "versions": provenance.versions(),
                "host": provenance.host(),
            }
        )
        rows = [TrialRow(t.trial_id, t.position, t.configuration, t.swept, t.hyperparameters, t.task.seed) for t in job.trials]
        try:
            with Ledger.create(folder, about, rows) as ledger:
                _run(console, job, folder, ledger)
        except ConfigError:  # only a cluster that is asked can say what it cannot do
            shutil.rmtree(folder)
            raise
        return Run(folder)


def show_the_plan(sweep: str, overrides: Sequence[str], scale: str | None, executor: str, address: str | None) -> None:
    """Print what would run, on what and for how long. Trains a few steps of each configuration and keeps nothing."""
    with terminal() as console, tempfile.TemporaryDirectory(prefix="ddl-plan-") as scratch:
        job, _ = _compose(console, sweep, overrides, scale, executor, address)
        with quiet(Path(scratch) / "launch.log"), _executor(job, Path(scratch)) as place:
            _plan(console, job, place, Path(scratch))


def resume(folder: Path | str, executor: str | None = None, address: str | None = None) -> Run:
    """Finish a run: finished trials are left alone, the others go on from their newest checkpoints, failed ones are tried again."""
    folder = Path(folder)
    with terminal() as console, Ledger(folder) as ledger:
        ledger.interrupted()
        job = _remaining(ledger, executor, address)
        console.print(f"resuming {folder}: {len(job.trials)} of {len(job.trials) + job.earlier} trials left")
        ledger.event("resumed", f"commit {provenance.code()['commit']}")
        _run(console, job, folder, ledger)
    return Run(folder)


def resume_command(folder: Path) -> str:
    return f"python launch.py --resume {shlex.quote(str(folder))}"


def write_report(folders: Sequence[Path], path: Path) -> None:
    """Write the report of one run, or of several beside each other."""
    from ddl.reports import html, model

    html.write(model.build(folders), path)


def not_reproduced(folders: Sequence[Path]) -> list[str]:
    """The published values that these runs do not reproduce, a line each."""
    from ddl.reports import model

    return model.build(folders).not_reproduced()


def _compose(
    console: Console, sweep: str, overrides: Sequence[str], scale: str | None, executor: str, address: str | None
) -> tuple[_Job, dict[str, Any]]:
    problems: list[str] = []
    scale, why = (scale, "as asked") if scale else default_scale()
    if scale not in config.SCALES:
        problems.append(f"scale: {scale!r} is unknown; it may be {', '.join(config.SCALES)}.")
    if executor not in EXECUTORS:
        problems.append(f"executor: {executor!r} is unknown; it may be {', '.join(EXECUTORS)}.")
    composed = config.compose(sweep, overrides, scale, problems)
    trials = space.expand(composed, problems) if composed else []
    share = None
    if composed and address is None:
        share = planning.share(composed.launch, local_capacity(), len(trials), executor == "inline", problems)
    if problems or composed is None:
        raise ConfigError(problems)
    console.print(f"scale: {scale} ({why})")
    file = composed.file
    job = _Job(composed.name, composed.launch, file.metric, executor, address, trials, 0, None, share)
    about = {
        "sweep": {
            "name": composed.name,
            "title": file.title,
            "task": file.task,
            "metric": asdict(file.metric),
            "seeds": composed.launch.seeds,
            "keys": list(trials[0].swept),
            "reference": asdict(file.reference) if file.reference else None,
        },
        "scale": scale,
        "overrides": list(overrides),
        "task_class": f"{composed.task_class.__module__}.{composed.task_class.__qualname__}",
        "launch": asdict(composed.launch),
        "executor": executor,
    }
    return job, about


def _remaining(ledger: Ledger, executor: str | None, address: str | None) -> _Job:
    about = ledger.run()
    module, _, name = about["task_class"].rpartition(".")
    cls: type[Task] = getattr(importlib.import_module(module), name)
    rows = ledger.trials()
    left = [row for row in rows if row.status in ("planned", "running", "failed")]
    trials = [Trial(row.trial_id, row.position, row.configuration, row.swept, cls(**row.task)) for row in left]
    plan = about.get("plan")
    launch, metric = Launch(**about["launch"]), Metric(**about["sweep"]["metric"])
    problems: list[str] = []
    planning.check_inline(launch, (executor or about["executor"]) == "inline", problems)
    if problems:
        raise ConfigError(problems)
    return _Job(
        name=about["sweep"]["name"],
        launch=launch,
        metric=metric,
        executor=executor or about["executor"],
        address=address,
        trials=trials,
        earlier=len(rows) - len(left),
        # The same precision and as many threads as before, or the numbers would not be the same run's.
        precision=plan["precision"] if plan else None,
        share=planning.Share(plan["num_workers"], plan["cpus_per_trial"], plan["gpus_per_trial"], plan["concurrent"]) if plan else None,
        history={} if launch.early_stopping.scheduler == "none" else _history(ledger, rows, metric),
    )


def _history(ledger: Ledger, rows: Sequence[TrialRow], metric: Metric) -> dict[str, list[tuple[float, float]]]:
    """What schedulers judge by, of trials that have ended well: (percent of its steps, metric) of each measurement."""
    total = {row.trial_id: row.facts["total_steps"] for row in rows if row.status in ("finished", "stopped") and row.facts}
    measured = ledger.metrics()
    found: dict[str, list[tuple[float, float]]] = {trial_id: [] for trial_id in total}
    mine = measured[(measured.name == metric.name) & measured.trial_id.isin(list(total))]
    for trial_id, step, value in zip(mine.trial_id, mine.step, mine.value, strict=True):
        found[trial_id].append((100 * step / total[trial_id], value))
    return found


def _run(console: Console, job: _Job, folder: Path, ledger: Ledger) -> None:
    """Plan, train, report. On Ctrl-C: stop the trials, leave what can be resumed."""
    console.print(f"run: {folder}", soft_wrap=True)
    console.print(f"if it is cut off: {resume_command(folder)}", soft_wrap=True)
    log, publishing = folder / "launch.log", followed(folder, job.launch.wandb.mode if job.trials else "disabled")
    try:
        with tempfile.TemporaryDirectory(prefix="ddl-") as scratch, signals(), quiet(log), publishing:
            try:
                if job.trials:
                    with _executor(job, Path(scratch)) as place:
                        plan = _plan(console, job, place, folder)
                        if job.precision is None:
                            ledger.note(plan=plan.record(job.executor, len(job.trials)))
                        _train(console, job, plan, place, folder, ledger)
            except KeyboardInterrupt:
                ledger.interrupted()
                raise
            _finish(console, folder)
    except KeyboardInterrupt:
        _finish(console, folder)
        raise Interrupted(folder) from None


def _plan(console: Console, job: _Job, place: Executor, out: Path) -> planning.Plan:
    problems: list[str] = []
    part = job.share or planning.share(job.launch, place.capacity(), len(job.trials), job.executor == "inline", problems)
    if problems:
        raise ConfigError(problems)
    with waiting(console, "timing the first steps of each configuration"):
        plan = planning.make(job.trials, part, place, job.precision, out, job.launch.checkpoint_every_s)
    show_plan(console, plan, job.trials)
    return plan


def _train(console: Console, job: _Job, plan: planning.Plan, place: Executor, folder: Path, ledger: Ledger) -> None:
    trials = (folder / "trials").resolve()
    assignments = [
        plan.share.assignment(trial, trials / trial.trial_id, job.launch.checkpoint_every_s, job.launch.latency)
        for trial in planning.settled(job.trials, plan.precision)
    ]
    began = time.time()
    reports = place.run(assignments, plan.share.concurrent)
    with Progress(console, job.trials, job.earlier, plan, job.metric) as progress, contextlib.closing(reports):  # type: ignore[type-var]
        for report in reports:
            match report.kind:
                case "started":
                    ledger.started(report.trial_id, report.step, report.place)
                case "measured":
                    ledger.measured(report.trial_id, report.step, report.epoch, report.elapsed_s, report.metrics, report.facts)
                case "ended":
                    ledger.ended(
                        report.trial_id,
                        report.status,
                        report.reason,
                        step=report.step,
                        epoch=report.epoch,
                        elapsed_s=report.elapsed_s,
                        metrics=report.metrics,
                    )
            progress.update(report)
    ledger.event("trained", f"{time.time() - began:.1f} s, expected {plan.eta_s:.1f} s")
    console.print(f"all trials ended after {duration(time.time() - began)} (expected {duration(plan.eta_s)})")


def _finish(console: Console, folder: Path) -> None:
    from ddl.reports import results

    results.write(folder)
    write_report([folder], folder / "report.html")
    for trial in Reader(folder).trials():
        if trial.status in ("failed", "diverged"):
            console.print(
                f"{trial.status}: {trial.configuration} seed {trial.seed} ({trial.trial_id}): {trial.reason}", markup=False, soft_wrap=True
            )


def _new_folder(out: Path, name: str) -> Path:
    stamp = time.strftime("%Y-%m-%d-%H%M%S")
    for attempt in range(1, 1000):
        folder = out / name / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("a thousand runs in one second")


def _executor(job: _Job, scratch: Path) -> Executor:
    if job.executor == "inline":
        return InlineExecutor()
    from ddl.sweeps import ray_schedulers  # a second that a mistyped option should not cost
    from ddl.sweeps.ray_tune import RayExecutor

    scheduler = ray_schedulers.build(job.launch.early_stopping, job.metric, job.history)
    packages = {"ddl"} | {type(trial.task).__module__.partition(".")[0] for trial in job.trials}
    return RayExecutor(job.address, job.launch.retries, scratch, scheduler, packages)
