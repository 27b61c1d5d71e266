"""Confirmations: the best configurations of a run, trained again on fresh seeds."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ddl.config import ConfigError
from ddl.console import terminal
from ddl.fetched_runs import fetch_run
from ddl.ledger_reader import LedgerReader
from ddl.overrides import selection
from ddl.run import show_plans, train_prepared
from ddl.run_folder import LEDGER
from ddl.run_results import Run
from ddl.storage import urls
from ddl.sweeps.confirmation import SUFFIX, SearchResult, prepare_confirmation
from ddl.sweeps.executor_choice import check_executor
from ddl.sweeps.prepare import PreparedRun

if TYPE_CHECKING:
    from ddl.reports.model import RunReport


def confirm(
    run: Run | Path | str,
    configurations: Sequence[str] | None = None,
    seeds: int | None = None,
    overrides: Sequence[str] = (),
    executor: str = "ray",
    address: str | None = None,
    out: Path | str = "runs",
    trust: bool = False,
    allow_changed_code: bool = False,
    function: Callable[..., Any] | None = None,
) -> Run:
    """Train configurations of a finished run again on fresh seeds, score each trial once on test data, and write the report.

    run: the run, its folder or its URL. configurations: their names, by default the best one and the second. seeds: replicates of each, by
    default 10. overrides: launch settings (`["resources.cpus=2"]`). executor, address, out: as for `run_sweep`. trust, allow_changed_code,
    function: as for `resume`.

    A task with training and validation data holds a part of its training data out (`task.holdout`): that part chooses the best epoch, and
    the former validation split becomes the test split. Other tasks are only trained on fresh seeds. Raises ConfigError, with every mistake,
    and ValueError for a run that cannot be confirmed, before anything is started or written, and Interrupted after Ctrl-C.
    """
    place = str(run.folder if isinstance(run, Run) else run)
    chosen = [
        *([] if seeds is None else [f"seeds={seeds}"]),
        *(shlex.split(selection(configurations)) if configurations is not None else []),
    ]
    shown = f"ddl.confirm({place!r}, {configurations!r}, seeds={seeds}, overrides={list(overrides)!r})"
    return run_confirmation(place, [*overrides, *chosen], executor, address, out, trust, allow_changed_code, function, shown)


def run_confirmation(
    place: str,
    overrides: Sequence[str],
    executor: str,
    address: str | None,
    out: Path | str,
    trust: bool,
    allow_changed_code: bool,
    function: Callable[..., Any] | None = None,
    command: str = "",
) -> Run:
    """`confirm` with the configurations and the number of seeds as overrides. `command` is shown in the report for running it again."""
    with terminal() as console:
        prepared = _prepare(place, overrides, executor, address, str(out), trust, allow_changed_code, function)
        return train_prepared(console, [prepared], prepared.name, str(out), command)


def show_confirmation_plan(
    place: str, overrides: Sequence[str], executor: str, address: str | None, out: str, trust: bool, allow_changed_code: bool
) -> None:
    """Print the plan of a confirmation, as `show_the_plan` does."""
    with terminal() as console:
        show_plans(console, [_prepare(place, overrides, executor, address, out, trust, allow_changed_code, None)])


def _prepare(
    place: str,
    overrides: Sequence[str],
    executor: str,
    address: str | None,
    out: str,
    trust: bool,
    allow_changed_code: bool,
    function: Callable[..., Any] | None,
) -> PreparedRun:
    problems: list[str] = []
    check_executor(executor, problems)
    if urls.is_url(out) and (problem := urls.url_problem(out)):
        problems.append(f"--out {problem}")
    if problems:
        raise ConfigError(problems)
    folder = fetch_run(place, trust)
    folders = Run(folder).folders
    if len(folders) > 1:
        named = ", ".join(f"{place.rstrip('/')}/{each.name}" for each in folders)
        raise ValueError(f"{place}: has several sweeps. Confirm one of them: {named}.")
    ledger = LedgerReader(folders[0])
    try:
        found = _search_result(place, ledger, out)
        return prepare_confirmation(ledger, found, overrides, executor, address, trust, allow_changed_code, function)
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{ledger.path}: the record of the run does not fit this version of ddl, or is damaged ({type(error).__name__}: {reason})."
        ) from error


def _search_result(place: str, ledger: LedgerReader, out: str) -> SearchResult:
    from ddl.reports.model import build_report

    (report,) = build_report([ledger.folder]).runs
    measure = report.primary if report.primary.partition(" ")[2] == report.metric else f"best {report.metric}"
    ranked = report.ranked(measure, report.mode)
    rest = [configuration for configuration in report.configurations if configuration not in ranked]
    used, unread = _earlier_confirmations(report, out)
    return SearchResult(
        place=place,
        measure=measure,
        values={configuration.name: configuration.values[measure] for configuration in [*ranked, *rest]},
        evaluations=_evaluations(report, measure.partition(" ")[2]),
        taken=[*(trial.seed for trial in report.trials), *used],
        unread=unread,
    )


def _evaluations(report: "RunReport", metric: str) -> dict[str, int]:
    """The largest number of measurements of the metric in a trial, by configuration."""
    counts = report.metrics[report.metrics["name"] == metric].groupby("trial_id").size()
    found = dict.fromkeys((configuration.name for configuration in report.configurations), 0)
    for trial in report.trials:
        found[trial.configuration] = max(found[trial.configuration], int(counts.get(trial.trial_id, 0)))
    return found


def _earlier_confirmations(report: "RunReport", out: str) -> tuple[list[int], list[str]]:
    """The seeds that confirmations of the run in the folder `out` of this machine have used, and why the others could not be read."""
    seeds, unread = [], []
    place = urls.local_folder(out.rstrip("/")) if urls.is_url(out) else Path(out)
    for path in sorted(place.glob(f"{report.sweep}{SUFFIX}/*/{LEDGER}")):
        try:
            ledger = LedgerReader(path.parent)
            if (ledger.run().get("confirms") or {}).get("created") == report.record.get("created"):
                seeds += [trial.seed for trial in ledger.trials()]
        except ValueError as error:
            unread.append(str(error))
    return seeds, unread
