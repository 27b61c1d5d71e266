"""The report as a W&B Report: the tables and panels of the HTML one, from the same model, beside the runs it is about."""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import Error
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from ddl import units
from ddl.reports import wording
from ddl.reports.model import Report, RunReport
from ddl.reports.statistics import Comparison, Estimate

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its deprecations are not ours to mend
    from wandb_workspaces.reports.v2 import interface as wr

TRIALS = 200
"""Rows of the trial table; the run set under the curves has all of them."""

TITLE_LENGTH = 128
"""W&B takes no longer title."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$])")

Clean = Callable[[str], str]


@dataclass(frozen=True)
class WandbGroup:
    """Where the report's runs are in W&B: all of `group` in `entity`'s `project`."""

    entity: str
    project: str
    group: str


def build_wandb_report(report: Report, place: WandbGroup, clean: Clean) -> wr.Report:
    """The report on one run. Needs no network. `clean` takes secrets and paths out of a text: all that leaves goes through it."""
    (run,) = report.runs
    blocks = [block for section in _SECTIONS for block in section(run, _Writer(run, clean), place)]
    title = clean(f"{report.title} ({place.group})")[:TITLE_LENGTH]
    return wr.Report(entity=place.entity, project=place.project, title=title, description=clean(run.answer), blocks=blocks, width="fluid")


def save_wandb_report(report: wr.Report, mark: Path) -> str:
    """Put it on the server, in place of the one that `mark`, a file of the run's, says is there already; its address.

    Raises ValueError where the server does not take it.
    """
    known = json.loads(mark.read_text()) if mark.is_file() else {}
    try:
        place = f"{wandb.Api().settings['base_url']}/{report.entity}/{report.project}"
        report.id = known.get(place, "")
        report.save()
        mark.write_text(json.dumps(known | {place: report.id}))
        return str(report.url)
    except (Error, WandbApiFailedError, OSError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(f"W&B: the trials are published, the report is not ({said}). Try again later: nothing is sent twice.") from error


class _Writer:
    """Texts of a run as blocks: cleaned, escaped, and with the run's notice on its data under every table."""

    def __init__(self, run: RunReport, clean: Clean):
        self._clean = clean
        self._note = f" **{self.text(run.caption)}.**" if run.caption else ""

    def text(self, text: object) -> str:
        return _MARKDOWN.sub(r"\\\1", " ".join(self._clean(str(text)).split()))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> wr.MarkdownBlock:
        lines = [[self.text(name) for name in columns], ["---"] * len(columns), *([self.text(cell) for cell in row] for row in rows)]
        return wr.MarkdownBlock("\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{self.caption(caption)}")

    def caption(self, text: str) -> str:
        return f"{self.text(text)}{self._note}"


def _head(run: RunReport, writer: _Writer, place: WandbGroup) -> Iterator[Any]:
    if run.notice:
        yield wr.MarkdownBlock(f"> **Not the full data.** {writer.text(run.notice)}")
    yield wr.MarkdownBlock(f"**{writer.text(run.answer)}**")
    yield wr.MarkdownBlock(writer.text(f"{run.setting} {run.judgement}"))


def _results(run: RunReport, writer: _Writer, place: WandbGroup) -> Iterator[Any]:
    yield wr.H2("Results")
    reference = run.reference
    rows = []
    for c in run.configurations:
        n, planned = c.estimates[run.primary].n, sum(c.statuses.values())
        row = [c.name, n if n == planned else f"{n} of {planned}", *(_estimate(c.estimates[measure]) for measure in run.measures)]
        if reference is not None:
            row += [wording.number(c.reference), f"{c.verdict.word}: {c.verdict.why}" if c.verdict else "no reference"]
        rows.append(row)
    columns = ["Configuration", "n", *(f"{measure}, 95% interval" for measure in run.measures)]
    caption = run.method
    if reference is not None:
        columns += ["reference", "verdict"]
        caption += f" Reference: {reference.metric} in {reference.source}, tolerance ± {reference.tolerance:g}. {reference.note}"
    yield writer.table(columns, rows, caption)
    if run.ordering is not None:
        yield wr.MarkdownBlock(writer.caption(run.ordering.sentence + (f" This is at {run.scale} scale." if run.scale != "paper" else "")))
    if run.costs:
        yield wr.H3("Cost")
        costs = [[c.name, *(_cost(c.costs.get(cost), cost) for cost in run.costs), c.precision] for c in run.configurations]
        columns = ["Configuration", *("trained for" if cost == "elapsed_s" else cost for cost in run.costs), "precision"]
        yield writer.table(columns, costs, "Means over seeds, each trial's last measurement.")


def _curves(run: RunReport, writer: _Writer, place: WandbGroup) -> Iterator[Any]:
    if not run.panels:
        return
    yield wr.H2("Curves")
    plots = [
        wr.LinePlot(
            title=panel.metric,
            x="epoch" if panel.x_name == "epoch" else "Step",
            y=[panel.metric],
            groupby=wr.Config("configuration"),
            groupby_aggfunc="mean",
            groupby_rangefunc="stderr",
        )
        for panel in run.panels
    ]
    yield _grid(place, plots)
    yield wr.MarkdownBlock(writer.caption("Lines are means over the seeds of a configuration, shades their standard errors."))


def _comparisons(run: RunReport, writer: _Writer, place: WandbGroup) -> Iterator[Any]:
    pairs = run.comparisons[run.primary]
    if not pairs:
        return
    yield wr.H2("Paired comparisons")
    columns = ["Difference", "n", *(f"{measure}{what}" for measure in run.measures for what in (", 95% interval", ", p", ", reading"))]
    rows = [
        [
            f"{pair.first} {wording.MINUS} {pair.second}",
            pair.difference.n,
            *(cell for m in run.measures for cell in _compared(run.comparisons[m][row])),
        ]
        for row, pair in enumerate(pairs)
    ]
    caption = "Differences over the seeds both have, and the paired t test's p after Holm's correction over the column."
    yield writer.table(columns, rows, f"{caption} {run.comparisons_note}")


def _trials(run: RunReport, writer: _Writer, place: WandbGroup) -> Iterator[Any]:
    yield wr.H2("Trials")
    rows = [
        [t.configuration, t.seed, t.status, wording.ABSENT if t.epoch is None else t.epoch]
        + [wording.number(t.values[column]) for column in run.trial_columns]
        + [wording.ABSENT if t.seconds is None else units.duration(t.seconds), t.reason, t.data, t.trial_id]
        for t in run.trials[:TRIALS]
    ]
    columns = ["configuration", "seed", "status", "epoch", *run.trial_columns, "trained for", "reason", "data", "trial"]
    left = len(run.trials) - len(rows)
    yield writer.table(columns, rows, f"Every trial's last values.{f' {left} more are in the run set.' if left else ''}")
    if run.failures:
        yield wr.H2("What failed")
        failed = [[t.configuration, t.seed, t.status, t.reason or "no reason was recorded", t.trial_id] for t in run.failures]
        yield writer.table(["configuration", "seed", "status", "reason", "trial"], failed, "Trials that did not come to a good end.")


def _figures(run: RunReport, writer: _Writer, place: WandbGroup) -> Iterator[Any]:
    # As the trials' own W&B runs name them.
    keys = dict.fromkeys(f"figures/{image.name.replace('.', '_')}" for image in run.images)
    if keys:
        yield wr.H2("Figures")
        yield _grid(place, [wr.MediaBrowser(title=key.removeprefix("figures/"), media_keys=[key]) for key in keys])
        yield wr.MarkdownBlock(writer.caption("What each trial drew."))


def _records(run: RunReport, writer: _Writer, place: WandbGroup) -> Iterator[Any]:
    if run.plan.rows or run.plan.probes:
        yield wr.H2("Plan")
        yield writer.table(["planned", ""], run.plan.rows, run.plan.eta)
    if run.plan.probes:
        rows = [
            [
                p.get("configuration", ""),
                wording.number(p.get("steps_per_s")),
                _cost(p.get("seconds_per_trial"), "elapsed_s"),
                p.get("precision", ""),
            ]
            for p in run.plan.probes
        ]
        yield writer.table(
            ["Configuration", "steps / s", "expected a trial", "precision"], rows, "What a probe of a few steps measured beforehand."
        )
    yield wr.H2("To run it again")
    yield writer.table(["what", "as recorded"], run.reproduce, "From the run's ledger.")


_SECTIONS = (_head, _results, _curves, _comparisons, _trials, _figures, _records)


def _grid(place: WandbGroup, panels: Sequence[Any]) -> wr.PanelGrid:
    # As a literal: the library's own filter objects do not escape a quote in a name.
    runs = wr.Runset(entity=place.entity, project=place.project, name=place.group, filters=f'Metric("Group") == {place.group!r}')
    return wr.PanelGrid(runsets=[runs], panels=list(panels))


def _estimate(estimate: Estimate) -> str:
    return f"{wording.number(estimate.mean)} {wording.interval(estimate)}".strip()


def _compared(c: Comparison) -> tuple[str, str, str]:
    if c.p_holm is None:
        return _estimate(c.difference), wording.ABSENT, f"not tested: {c.untested}"
    p = "< 0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}"
    return _estimate(c.difference), p, "significant" if c.significant else "difference not significant"


def _cost(value: float | None, cost: str) -> str:
    return units.duration(value) if cost == "elapsed_s" and value is not None else wording.number(value)
