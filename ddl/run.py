"""A sweep from its name to its report: what the command does, as a library."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from ddl import config, driver, provenance
from ddl.config import ConfigError
from ddl.console import quiet, signals, terminal
from ddl.driver import OpenRun
from ddl.ledger import FILE, Ledger, LedgerReader, TrialRow
from ddl.storage import urls
from ddl.storage.runs import RunStore
from ddl.storage.trials import TrialStore
from ddl.sweeps import plan as planning
from ddl.sweeps import prepare
from ddl.sweeps.executors import local_capacity
from ddl.sweeps.prepare import EXECUTORS, PreparedRun, RunOptions, resume_command
from ddl.tracking.follower import publish_live

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"
"""The name for every sweep there is."""


@dataclass(frozen=True)
class Run:
    """A run's folder and what can be read from it. The folder of a run of all sweeps holds one folder a sweep.

    `only_here` names what a run that is kept at a URL has locally alone, a line each.
    """

    folder: Path
    only_here: tuple[str, ...] = ()

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def folders(self) -> list[Path]:
        """Those with a ledger: the run's own, or one a sweep."""
        return [self.folder] if (self.folder / FILE).is_file() else sorted(path.parent for path in self.folder.glob(f"*/{FILE}"))

    @property
    def results(self) -> "pd.DataFrame":
        """One row a trial: trial_id, configuration, status, seed, each swept key, each final metric; of several sweeps, below
        each other."""
        import pandas as pd

        from ddl.reports import results

        frames = [results.read_results(folder) for folder in self.folders]
        return frames[0] if len(frames) == 1 else pd.concat(frames, keys=[folder.name for folder in self.folders], names=["sweep", None])

    @property
    def trials(self) -> list[TrialRow]:
        return [trial for folder in self.folders for trial in LedgerReader(folder).trials()]

    @property
    def failed(self) -> list[TrialRow]:
        return [trial for trial in self.trials if trial.status == "failed"]


class Interrupted(Exception):
    """The sweep was asked to stop (Ctrl-C, SIGTERM) and has left a run that can be resumed: `folder`, kept at `url` where that is given."""

    def __init__(self, folder: Path, url: str = ""):
        super().__init__(f"interrupted; go on with: {resume_command(url or folder)}")
        self.folder = folder


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
    """Train every configuration of a sweep, named or in a YAML file, and write the report. Several, with commas between
    them, and `all` there are, are trained as one queue; each has its own folder in the run's, and one report is of them all.

    `overrides` are Hydra's (`["task.lr=0.01", "seeds=5"]`), `scale` is smoke, sample or paper, `executor` is ray or inline,
    `address` that of a running Ray cluster. `out` is a folder, or a URL of a store (`ddl.storage`): the run is made in a local
    folder then and kept there besides. `command` is what stands in the report as the way to run it again. Raises
    ConfigError, with every mistake, before anything starts or is written; Interrupted after Ctrl-C.
    """
    with terminal() as console:
        composed = _compose(console, sweep, overrides, scale, executor, address, str(out))
        several = len(composed) > 1
        store = str(out).rstrip("/") if urls.is_url(str(out)) else ""
        top = prepare.new_folder(
            urls.local_folder(store) if store else Path(out), ALL if sweep == ALL else "several" if several else composed[0].name
        )
        url = store and f"{store}/{top.parent.name}/{top.name}"
        given = command or f"ddl.run_sweep({sweep!r}, overrides={list(overrides)!r}, scale={composed[0].about['scale']!r})"
        try:
            with contextlib.ExitStack() as ledgers:
                kept = ledgers.enter_context(_kept(top, url)) if url else None
                opened = []
                for job in composed:
                    folder, place = (top / job.name, url and f"{url}/{job.name}") if several else (top, url)
                    folder.mkdir(exist_ok=True)
                    ledger = ledgers.enter_context(prepare.begin_run(job, folder, given, url or str(folder), url))
                    opened.append(OpenRun(job, folder, ledger, place))
                _run(console, opened, top, url, kept)
        except ConfigError:  # only a cluster or a store that is asked can say what it cannot do
            shutil.rmtree(top)
            raise
        return _ended(console, top, kept)


def show_the_plan(sweep: str, overrides: Sequence[str], scale: str | None, executor: str, address: str | None) -> None:
    """Print what would run, on what and for how long. Trains a few steps of each configuration and keeps nothing."""
    with terminal() as console, tempfile.TemporaryDirectory(prefix="ddl-plan-") as scratch:
        composed = _compose(console, sweep, overrides, scale, executor, address, "")
        with quiet(Path(scratch) / "launch.log"), driver.make_executor(composed, Path(scratch)) as place:
            driver.make_plans(console, composed, place, Path(scratch))


def resume(folder: Path | str, executor: str | None = None, address: str | None = None) -> Run:
    """Finish a run: finished trials are left alone, the others go on from their newest checkpoints, failed ones are tried again.

    `folder` may be the URL at which the run is kept.
    """
    url = str(folder).rstrip("/") if urls.is_url(str(folder)) else ""
    if url and (said := urls.url_problem(url)):
        raise ConfigError([f"--resume {said}"])
    run = Run(urls.local_run(url) if url else Path(folder))
    if not url and run.folders:
        url = LedgerReader(run.folders[0]).run().get("url", "")
    with terminal() as console, contextlib.ExitStack() as ledgers:
        kept = ledgers.enter_context(_kept(run.folder, url)) if url else None
        if kept:
            kept.pull()
        opened = []
        for path in run.folders or [run.folder]:
            ledger = ledgers.enter_context(Ledger(path))
            ledger.interrupted()
            place = url and "/".join([url, *path.relative_to(run.folder).parts])
            opened.append(OpenRun(prepare.prepare_resume(ledger, executor, address), path, ledger, place))
        left, earlier = sum(one.job.size for one in opened), sum(one.job.earlier for one in opened)
        console.print(f"resuming {run.folder}: {left} of {left + earlier} trials left", soft_wrap=True)
        for one in opened:
            one.ledger.event("resumed", f"commit {provenance.code()['commit']}")
        _run(console, opened, run.folder, url, kept)
        ledgers.close()
        return _ended(console, run.folder, kept)


@contextlib.contextmanager
def _kept(folder: Path, url: str) -> Iterator[RunStore]:
    store = RunStore(folder, url)
    try:
        store.claim()
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    with store:
        yield store


def _ended(console: Console, top: Path, kept: RunStore | None) -> Run:
    """The run, once its last copy is made, or is not."""
    if kept is None:
        return Run(top)
    metadata = {trial.trial_id: (trial.metadata or {}).get("only_here") for trial in Run(top).trials}
    lacking = [f"trial {trial_id}: {said}" for trial_id, said in metadata.items() if said] + ([kept.behind] if kept.behind else [])
    console.print(f"kept at {kept.url}" + (", but not all of it:" if lacking else ""), soft_wrap=True)
    for line in lacking:
        console.print(line, markup=False, soft_wrap=True)
    return Run(top, tuple(lacking))


def fetch_run(place: str) -> Path:
    """The folder of a run that is to be read: `place` itself, or, where that is a URL, one with a copy of the ledger and of what the
    trials show. Raises ConfigError for a URL that cannot be used, ValueError where no run is there."""
    if not urls.is_url(place):
        return Path(place)
    if said := urls.url_problem(place):
        raise ConfigError([said])
    store = RunStore(urls.local_run(place), place)
    store.pull()
    store.collect()
    if store.behind:
        raise ValueError(store.behind)
    return urls.local_run(place)


def fetch_trial(place: str, trial_id: str) -> Path:
    """Like `fetch_run`, where the trial's newest checkpoint is wanted too."""
    folder = fetch_run(place)
    if urls.is_url(place):
        TrialStore(folder / "trials" / trial_id, trial_id, f"{place.rstrip('/')}/trials/{trial_id}").newest()
    return folder


def write_report(folders: Sequence[Path], path: Path) -> None:
    """Write the report of one run, or of several beside each other."""
    from ddl.reports import html, model

    html.write_html(model.build_report(folders), path)


def not_reproduced(folders: Sequence[Path]) -> list[str]:
    """The published values that these runs do not reproduce, a line each."""
    from ddl.reports import model

    return model.build_report(folders).not_reproduced()


def _compose(
    console: Console, sweep: str, overrides: Sequence[str], scale: str | None, executor: str, address: str | None, out: str
) -> list[PreparedRun]:
    problems: list[str] = []
    if urls.is_url(out) and (said := urls.url_problem(out)):
        problems.append(f"--out {said}")
    scale, why = (scale, "as asked") if scale else default_scale()
    if scale not in config.SCALES:
        problems.append(f"scale: {scale!r} is unknown; it may be {', '.join(config.SCALES)}.")
    if executor not in EXECUTORS:
        problems.append(f"executor: {executor!r} is unknown; it may be {', '.join(EXECUTORS)}.")
    asked = RunOptions(tuple(overrides), scale, executor, address)
    names = config.config_names("sweep") if sweep == ALL else [sweep] if Path(sweep).is_file() else sweep.split(",")
    if len(set(names)) < len(names):
        problems.append(f"--sweep {sweep!r}: names a sweep twice. Name each once.")
    found = [job for name in names if (job := prepare.prepare_run(name, asked, problems))]
    if len({job.name for job in found}) < len(found):
        problems.append(f"--sweep {sweep!r}: two files of the same name. Rename one.")
    if len(found) > 1 and any(job.launch.early_stopping.scheduler != "none" for job in found):
        problems.append("early_stopping.scheduler: compares the trials of one sweep. Take none for several sweeps.")
    if urls.is_url(out) and any(job.population for job in found):
        problems.append(f"--out {out}: search.algorithm: pbt goes on from local checkpoints. Name a folder.")
    if address is None:
        total = sum(job.size for job in found)
        found = [
            replace(job, allocation=planning.allocate(job.launch, local_capacity(), total, executor == "inline", problems)) for job in found
        ]
    if problems or not found:
        raise ConfigError(list(dict.fromkeys(problems)))
    console.print(f"scale: {scale} ({why})")
    return found


def _run(console: Console, opened: Sequence[OpenRun], top: Path, url: str, kept: RunStore | None) -> None:
    """Plan, train, report. On Ctrl-C: stop the trials, leave what can be resumed."""
    console.print(f"run: {top}", soft_wrap=True)
    console.print(f"to watch it: {top / 'report.html'}, rewritten as it goes", soft_wrap=True)
    console.print(f"if it is cut off: {resume_command(url or top)}", soft_wrap=True)
    left = [one for one in opened if one.job.size]
    try:
        with contextlib.ExitStack() as around:
            scratch = Path(around.enter_context(tempfile.TemporaryDirectory(prefix="ddl-")))
            around.enter_context(signals())
            around.enter_context(quiet(top / "launch.log"))
            for one in left:
                around.enter_context(publish_live(console, one.folder, one.job.launch.wandb.mode))
            try:
                if left:
                    with driver.make_executor([one.job for one in left], scratch) as place:
                        plans = driver.make_plans(console, [one.job for one in left], place, top)
                        for one, plan in zip(left, plans, strict=True):
                            if not one.job.resumed:
                                one.ledger.note(plan=plan.record(one.job.executor, one.job.size))
                        driver.train_runs(console, list(zip(left, plans, strict=True)), place, top)
            except KeyboardInterrupt:
                for one in opened:
                    one.ledger.interrupted()
                raise
            _finish(console, [one.folder for one in opened], top, kept)
    except KeyboardInterrupt:
        _finish(console, [one.folder for one in opened], top, kept)
        raise Interrupted(top, url) from None


def _finish(console: Console, folders: Sequence[Path], top: Path, kept: RunStore | None) -> None:
    from ddl.reports import results

    if kept:
        kept.collect()
    for folder in folders:
        results.write_results(folder)
        write_report([folder], folder / "report.html")
    if len(folders) > 1:
        write_report(folders, top / "report.html")
    for trial in Run(top).trials:
        if trial.status in ("failed", "diverged"):
            console.print(
                f"{trial.status}: {trial.configuration} seed {trial.seed} ({trial.trial_id}): {trial.reason}", markup=False, soft_wrap=True
            )
