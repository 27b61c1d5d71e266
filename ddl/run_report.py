"""Writes the results and reports of runs."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ddl.hints import suggest_name
from ddl.ledger_reader import ledger_path
from ddl.ledger_tables import LOST
from ddl.run_folder import LEDGER
from ddl.run_results import Run
from ddl.storage.runs import RunStore

if TYPE_CHECKING:
    from ddl.reports.model import Report


def write_report(folders: Sequence[Path], path: Path, with_results: bool = False) -> "Report":
    """Write one HTML report over the runs in `folders`. `with_results`: also the results of each run, into its folder."""
    from ddl.reports import html, model, results

    report = model.build_report(folders)
    for run in report.runs if with_results else ():
        results.write_results(run.folder, run.frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    html.write_html(report, path)
    return report


def rewrite_report(folders: Sequence[Path], path: Path, with_results: bool = False) -> list[str]:
    """Like `write_report`, for runs that may come from elsewhere: raises ValueError if their records have another form than ddl's.

    `with_results`: also write the results of each run, which a full disk may have prevented. Returns the main finding of each run.
    """
    with _named_if_damaged(folders):
        return write_report(folders, path, with_results).headlines()


def markdown_report(folders: Sequence[Path]) -> str:
    """The results of the runs in `folders` as Markdown. Raises ValueError as `rewrite_report`."""
    with _named_if_damaged(folders):
        from ddl.reports import markdown, model

        return markdown.render_markdown(model.build_report(folders))


@contextlib.contextmanager
def _named_if_damaged(folders: Sequence[Path]) -> Iterator[None]:
    """Turns an error of a record that has another form than ddl's into a ValueError that names the ledgers.

    Raises ValueError at once if a folder has no ledger.
    """
    for folder in folders:
        ledger_path(folder)
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        if any(str(error).startswith(str(folder)) for folder in folders):  # of the ledger, which names itself
            raise
        ledgers = ", ".join(str(folder / LEDGER) for folder in folders)
        raise ValueError(
            f"{ledgers}: no report can be made of this record ({type(error).__name__}: {error}). It is damaged, or of another version of ddl."
        ) from error


def not_reproduced(folders: Sequence[Path]) -> list[str]:
    """A line for each published value that these runs do not reproduce. Raises ValueError if trials did not report the metric of one."""
    from ddl.reports import model

    report = model.build_report(folders)
    for each in report.runs:
        if each.reference is not None and each.reference.measure is None and each.statuses["finished"]:
            name = each.reference.metric.removeprefix("best ").removeprefix("last ")
            hint = suggest_name(name, sorted(set(each.metrics["name"])))
            raise ValueError(
                f"{each.folder}: reference.metric: no trial reported {each.reference.metric}, so nothing can be checked.{hint}"
            )
    return report.not_reproduced()


def write_results_and_report(console: Console, folders: Sequence[Path], top: Path, store: RunStore | None) -> list[str]:
    """Write results and reports, and print the trials that failed or diverged. Returns the main finding of each run, and the next
    step after a single one."""
    if store:
        store.download_figures()
    for folder in folders:
        report = write_report([folder], folder / "report.html", with_results=True)
    if len(folders) > 1:
        report = write_report(folders, top / "report.html")
    for trial in Run(top).trials:
        if trial.status in LOST:
            console.print(f"{trial.status}: {trial.configuration} seed {trial.seed} ({trial.trial_id}): {trial.reason}", soft_wrap=True)
    return [*report.headlines(), *filter(None, [report.runs[0].next_step if len(folders) == 1 else ""])]
