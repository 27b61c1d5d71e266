"""The results as Markdown, with the numbers of the HTML report."""

import re
from collections.abc import Iterable, Sequence

from ddl.reports import narrative
from ddl.reports.model import Report, RunReport
from ddl.reports.sections.reproduction import reproduction_record
from ddl.reports.sections.results import results_table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def escape(text: object) -> str:
    """Text on one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def markdown_table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that have been escaped already."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *rows])


def render_markdown(report: Report) -> str:
    """One table of results per run, each below the run's main finding and its setting: scale, data, commit and machine."""
    return "\n\n".join([f"# {escape(report.title)}", *(_run(run, several=len(report.runs) > 1) for run in report.runs)]) + "\n"


def _run(run: RunReport, several: bool) -> str:
    records = dict(reproduction_record(run))
    places = [f"{label}: {records[label]}." for label in ("Commit of ddl", "Host", "GPUs", "Trained on") if label in records]
    table = results_table(run)
    return "\n\n".join(
        filter(
            None,
            [
                f"## {escape(run.title)} ({escape(run.name)})" if several else "",
                "\n>\n".join(f"> **{first}** {escape(text)}" for first, text in run.notices.items()),
                escape(run.answer),
                escape(f"{narrative.setting(run, run.statuses, run.scale)} {narrative.judgement(run)} {' '.join(places)}"),
                markdown_table([escape(column) for column in table.columns], [[escape(cell) for cell in row] for row in table.rows]),
                escape(f"{table.caption} {run.caption}".strip()),
            ],
        )
    )
