"""Training of prepared runs whose folders exist, and their report: also after Ctrl-C, and if a file cannot be written."""

import contextlib
import shlex
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ddl.config import ConfigError
from ddl.console import quiet, signals
from ddl.durable import CannotWrite
from ddl.ledger_reader import LedgerReader
from ddl.ledger_tables import ENDED
from ddl.machine_use import announce
from ddl.open_executor import open_executor
from ddl.open_run import OpenRun
from ddl.program import program
from ddl.run_folder import folders_with_ledger
from ddl.run_report import write_results_and_report
from ddl.scratch import scratch_folder
from ddl.storage.runs import RunStore
from ddl.sweeps.executor_died import ExecutorDied
from ddl.sweeps.new_run import resume_command
from ddl.tracking.follower_process import publish_live


class Interrupted(Exception):
    """The sweep was stopped by Ctrl-C or SIGTERM. Its run, in `folder` and at `url` if that is given, can be resumed."""

    def __init__(self, folder: Path, url: str = ""):
        super().__init__(f"interrupted; resume with: {resume_command(url or folder)}")
        self.folder = folder


class SweepStopped(Exception):
    """The sweep was stopped because a file of its run cannot be written, or because Ray died. The message says so, with what is needed and
    the next command."""


@signals()
def train_and_report(console: Console, opened: Sequence[OpenRun], top: Path, url: str, store: RunStore | None) -> list[str]:
    """Plan, train and report. Returns the main findings.

    On Ctrl-C, stop the trials, write the report of what there is, and raise Interrupted. A second Ctrl-C leaves the report out. Raises
    SweepStopped if a file cannot be written or Ray died: the ledger is then whole, and trials that were running continue when the run is
    resumed.
    """
    console.print(f"run: {top}", soft_wrap=True)
    console.print(f"live report: {top / 'report.html'}", soft_wrap=True)
    console.print(f"to resume it if interrupted: {resume_command(url or top)}", soft_wrap=True)
    folders = [run.folder for run in opened]
    trained = False
    try:
        with contextlib.ExitStack() as contexts:
            scratch = contexts.enter_context(scratch_folder("run"))
            contexts.enter_context(quiet(top / "launch.log"))
            unfinished = [run for run in opened if run.prepared.size]
            for run in unfinished:
                contexts.enter_context(publish_live(console, run.folder, run.prepared.launch.wandb.mode))
            try:
                if unfinished:
                    _plan_and_train(console, unfinished, scratch, top)
            except (KeyboardInterrupt, ConfigError, ExecutorDied):
                for run in opened:
                    run.ledger.interrupted()
                raise
            except CannotWrite:
                with contextlib.suppress(OSError):  # the log is on the same disk
                    traceback.print_exc()
                raise
            trained = True
            return write_results_and_report(console, folders, top, store)
    except ConfigError:
        if any_ended(top):
            write_results_and_report(console, folders, top, store)
        raise
    except KeyboardInterrupt:
        if not trained:
            with contextlib.suppress(KeyboardInterrupt, CannotWrite):
                write_results_and_report(console, folders, top, store)
        raise Interrupted(top, url) from None
    except ExecutorDied as error:
        with contextlib.suppress(KeyboardInterrupt, CannotWrite):
            write_results_and_report(console, folders, top, store)
        raise SweepStopped(f"{error}. To continue: {resume_command(url or top)}") from error
    except CannotWrite as error:
        next_command = f"{program()} --report {shlex.quote(url or str(top))}" if trained else resume_command(url or top)
        raise SweepStopped(f"{error}. {error.needed}, then: {next_command}") from error


def any_ended(top: Path) -> bool:
    """True if a trial of the run in the folder `top` has ended."""
    return any(trial.status in ENDED for folder in folders_with_ledger(top) for trial in LedgerReader(folder).trials())


def _plan_and_train(console: Console, runs: Sequence[OpenRun], scratch: Path, top: Path) -> None:
    prepared = [run.prepared for run in runs]
    local = prepared[0].address is None
    if local:
        announce(scratch, top)
    with contextlib.ExitStack() as contexts:
        if prepared[0].population and not local:  # Ray stores a population's checkpoints where it finds Tune's files, on every node
            scratch = contexts.enter_context(scratch_folder("tune", base=top))
        executor = contexts.enter_context(open_executor(prepared, scratch))
        from ddl import driver  # late: meanwhile the fork server imports what workers need
        from ddl.run_plans import make_plans

        executor.get_ready()
        plans = make_plans(console, prepared, executor, top, scratch)
        if local:
            announce(scratch, top, *max(plan.allocation.in_use for plan in plans))
        for run, plan in zip(runs, plans, strict=True):
            earlier = run.prepared.allocation
            if earlier is None or earlier.size != plan.allocation.size or run.prepared.precision != plan.precision:
                run.ledger.note(plan=plan.record(run.prepared.executor, run.prepared.size))
            if earlier and earlier.size != plan.allocation.size:
                run.ledger.event("reallocated", f"{earlier.size} to {plan.allocation.size}")
        driver.train_runs(console, list(zip(runs, plans, strict=True)), executor, top)
