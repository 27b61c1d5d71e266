"""The command as a library: runs, resumes and reports sweeps."""

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from ddl import ownership, provenance
from ddl.again import lost_trials, plan_again
from ddl.claimed_store import claimed_store
from ddl.config import ConfigError
from ddl.console import quiet, terminal
from ddl.fetched_runs import check_place
from ddl.function_sweep import FunctionSweep
from ddl.ledger import Ledger
from ddl.ledger_reader import LedgerReader
from ddl.open_executor import open_executor
from ddl.open_run import OpenRun
from ddl.prepared_runs import ALL, prepare_runs
from ddl.run_results import Run
from ddl.run_training import any_ended, train_and_report
from ddl.scratch import scratch_folder
from ddl.storage import urls
from ddl.storage.runs import RunStore
from ddl.sweeps.new_run import begin_run, new_folder, resume_command
from ddl.sweeps.prepare import PreparedRun
from ddl.sweeps.rest_of_run import prepare_resume
from ddl.tasks.user_code import locate_module
from ddl.units import count


def run_sweep(
    sweep: str | FunctionSweep,
    overrides: Sequence[str] = (),
    scale: str | None = None,
    executor: str = "ray",
    address: str | None = None,
    out: Path | str = "runs",
    command: str = "",
) -> Run:
    """Train every configuration of a sweep, and write the report.

    sweep: a name, a YAML file, several names with commas, or `all`; or a function, as `FILE.py:NAME` or `MODULE:NAME` (`ddl.sweep` takes
        the function itself). Several sweeps are trained as one queue; each has a folder of its own, and one report covers all of them.
    overrides: Hydra overrides (`["task.lr=0.01", "seeds=5"]`).
    scale: smoke, sample or paper. executor: ray or inline. address: of a running Ray cluster.
    out: a folder, or the URL of an object store (`ddl.storage`). The run is then written to a local folder and uploaded.
    command: the command shown in the report for running it again.

    Raises ConfigError, with every mistake, before anything is started or written, Interrupted after Ctrl-C, and
    SweepStopped if the disk is full or Ray died.
    """
    with terminal() as console:
        prepared = prepare_runs(console, sweep, overrides, scale, executor, address, str(out))
        name = ALL if sweep == ALL else "several" if len(prepared) > 1 else prepared[0].name
        command = command or f"ddl.run_sweep({sweep!r}, overrides={list(overrides)!r}, scale={prepared[0].about['scale']!r})"
        return train_prepared(console, prepared, name, str(out), command)


def train_prepared(console: Console, prepared: Sequence[PreparedRun], name: str, out: str, command: str) -> Run:
    """Train the prepared runs as one queue in a new folder `out`/`name`/date and time, and write the report.

    `out` and `command` as for `run_sweep`. Raises ConfigError for problems that are found only now, and then leaves no folder, and
    Interrupted after Ctrl-C.
    """
    several = len(prepared) > 1
    store_url = out.rstrip("/") if urls.is_url(out) else ""
    place = urls.local_folder(store_url) if store_url else Path(out)
    # Not `Path.exists`, which raises for a name that is too long.
    created = [folder for folder in (place / name, *(place / name).parents) if not os.path.exists(folder)]
    top = new_folder(place, name)
    url = store_url and f"{store_url}/{top.parent.name}/{top.name}"
    try:
        with contextlib.ExitStack() as contexts:
            store = contexts.enter_context(claimed_store(console, RunStore(top, url))) if url else None
            opened = []
            for run in prepared:
                folder, run_url = (top / run.name, url and f"{url}/{run.name}") if several else (top, url)
                folder.mkdir(exist_ok=True)
                ledger = contexts.enter_context(begin_run(run, folder, command, url or str(folder), url))
                opened.append(OpenRun(run, folder, ledger, run_url))
            headlines = train_and_report(console, opened, top, url, store)
    except ConfigError:  # some problems are found only when the cluster, the store or a trial's first steps are asked
        if not any_ended(top):
            shutil.rmtree(top)
            if url:
                RunStore(top, url).remove_run()
            for folder in created:
                with contextlib.suppress(OSError):  # another run is in it
                    folder.rmdir()
        raise
    return _finished_run(console, top, store, headlines)


def sweep(
    function: Callable[..., Any],
    space: Mapping[str, Any] | None = None,
    *,
    metric: str,
    mode: Literal["max", "min", ""] = "",
    seeds: int | None = None,
    configurations: Mapping[str, Mapping[str, Any]] | None = None,
    samples: int = 0,
    measurements: int = 0,
    title: str = "",
    overrides: Sequence[str] = (),
    executor: str = "ray",
    address: str | None = None,
    out: Path | str = "runs",
) -> Run:
    """Call `function` with every configuration and seed in parallel, compare what it measures, and write the report.

    function: its keyword arguments are the hyperparameters. It also gets those of `seed`, `device` (a `torch.device`) and `resume` that it
        has as arguments. It yields dictionaries of measurements, such as `{"val/accuracy": 0.9}`, or `ddl.Progress`, or returns one.
    space: a list of values, or a distribution such as `{"loguniform": [1e-4, 1e-1]}`, of each hyperparameter that varies.
    metric: the measurement to compare. mode: whether larger or smaller values are better; by default it follows from the metric's name
        (`val/loss` should be small).
    seeds: replicates of each configuration. configurations: named hyperparameters, in addition to `space`.
    samples: number of points if `space` has a distribution. measurements: their number in one trial; early stopping needs it.
    overrides, executor, address, out: as for `run_sweep`; overrides set keys of `launch.yaml`, such as `["resources.cpus=2"]`.

    Raises ConfigError, with every mistake, before anything is started or written, Interrupted after Ctrl-C, and
    SweepStopped if the disk is full or Ray died.
    """
    module, code_folder = locate_module(function)
    described = FunctionSweep(function, module, code_folder, space or {}, configurations or {}, metric, mode, samples, title, measurements)
    overrides = [*overrides, *([] if seeds is None else [f"seeds={seeds}"])]
    return run_sweep(described, overrides, None, executor, address, out, described.call(overrides))


def show_the_plan(
    sweep: str, overrides: Sequence[str], scale: str | None, executor: str, address: str | None, out: Path | str = "runs"
) -> None:
    """Print the trials, their resources and the expected duration. Times a few steps of each configuration, and keeps only these timings.

    The spread of an earlier run of the sweep in `out`, a folder or URL, says which differences the seeds can show.
    """
    with terminal() as console:
        show_plans(console, prepare_runs(console, sweep, overrides, scale, executor, address, str(out)))


def show_plans(console: Console, prepared: Sequence[PreparedRun]) -> None:
    """Print the plan of each run. Keeps nothing but its timings, for a sweep that begins soon (`KnownTimings`)."""
    with (
        scratch_folder("plan") as scratch,
        quiet(scratch / "launch.log"),
        open_executor(prepared, scratch, trains=False) as started,
    ):
        from ddl.run_plans import make_plans  # late: meanwhile the fork server imports what workers need

        make_plans(console, prepared, started, scratch, scratch, recall=False)


def resume(
    folder: Path | str,
    executor: str | None = None,
    address: str | None = None,
    trust: bool = False,
    allow_changed_code: bool = False,
    function: Callable[..., Any] | None = None,
    again: Sequence[str] = (),
) -> Run:
    """Finish an interrupted run: unfinished trials continue from their newest checkpoints, failed ones are tried again.

    `folder` may be the URL that the run was uploaded to. `trust`: treat it as a run of one's own even if someone else began it; it may
    then import its plugin, read the files that its hyperparameters name, and upload to the URL in its record. `allow_changed_code`:
    continue although the source of its task is another one than when it began. `function`: what the run trains, if it was defined in a
    notebook. `again`: ids of trials that are trained again from their beginning.
    """
    url = str(folder).rstrip("/") if urls.is_url(str(folder)) else ""
    if url and (problem := urls.url_problem(url)):
        raise ConfigError([f"--resume {problem}"])
    run = Run(urls.local_run(url) if url else Path(folder))
    if not trust:
        check_place(str(folder))
    if not url:
        record = LedgerReader(run.folders[0]).run()
        url = record.get("url", "")
        if url and not (trust or ownership.is_own(record)):
            raise ValueError(
                f"{run.folder}: its record uploads it to {url}, and this run was not begun by you. Name that URL instead of the folder, or add "
                "--trust if you trust the run."
            )
    with terminal() as console, contextlib.ExitStack() as contexts:
        store = contexts.enter_context(claimed_store(console, RunStore(run.folder, url, resumed=True))) if url else None
        if store:
            store.download_ledgers()
        ledgers = [contexts.enter_context(Ledger(path)) for path in run.folders]
        if again:
            for ledger in ledgers:  # which may refuse to resume, before anything is removed
                prepare_resume(ledger, executor, address, trust, allow_changed_code, function, again)
            plan_again(ledgers, again, store)
        opened = []
        for ledger in ledgers:
            path = ledger.folder
            ledger.interrupted()
            run_url = url and "/".join([url, *path.relative_to(run.folder).parts])
            prepared = prepare_resume(ledger, executor, address, trust, allow_changed_code, function)
            opened.append(OpenRun(prepared, path, ledger, run_url))
        left, earlier = sum(each.prepared.size for each in opened), sum(each.prepared.earlier for each in opened)
        console.print(f"resuming {run.folder}: {left} of {left + earlier} trials left", soft_wrap=True)
        for each in opened:
            _record_resume(console, each.ledger, each.prepared.changed_code)
        if not url and (lost := lost_trials(ledgers)):
            command = f"{resume_command(run.folder)} --again {' '.join(lost)}"
            console.print(f"the files of {count(len(lost), 'finished trial')} are gone; to train again: {command}", soft_wrap=True)
        headlines = train_and_report(console, opened, run.folder, url, store)
        contexts.close()
        return _finished_run(console, run.folder, store, headlines)


def _record_resume(console: Console, ledger: Ledger, changed_code: Sequence[str]) -> None:
    ledger.event("resumed", f"commit {provenance.code()['commit']}")
    if changed_code:
        ledger.event("changed code", ", ".join(changed_code))
        ledger.note(changed_code=sorted({*ledger.run().get("changed_code", []), *changed_code}))
        console.print(f"the code has changed since the run began: {', '.join(changed_code)}", soft_wrap=True)


def _finished_run(console: Console, top: Path, store: RunStore | None, headlines: Sequence[str]) -> Run:
    """The run, after its last upload; prints the parts that were not uploaded, and then the main findings."""
    missing = _not_uploaded(console, top, store) if store else []
    for line in headlines:
        console.print(line, soft_wrap=True)
    return Run(top, tuple(missing))


def _not_uploaded(console: Console, top: Path, store: RunStore) -> list[str]:
    """The parts of the run that were not uploaded, which are printed."""
    reasons = {trial.trial_id: (trial.metadata or {}).get("only_here") for trial in Run(top).trials}
    missing = [f"trial {trial_id}: {reason}" for trial_id, reason in reasons.items() if reason]
    missing += [store.not_uploaded] if store.not_uploaded else []
    console.print(f"uploaded to {store.url}" + (", except:" if missing else ""), soft_wrap=True)
    for line in missing:
        console.print(line, soft_wrap=True)
    return missing
