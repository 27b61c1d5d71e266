"""The results table with its interval strips, the order of the configurations, the milestones and the costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ddl.reports import wording
from ddl.reports.embedding import EmbeddingBudget
from ddl.reports.measures import Configuration
from ddl.reports.model import RunReport
from ddl.reports.published import PublishedValues
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock, TextBlock
from ddl.reports.statistics import INTERQUARTILE_FROM
from ddl.reports.verdicts import NOT_COMPARABLE

NOISY_PERCENT = 10
"""Two rounds of latency measurements that differ by more are reported as noisy."""


@dataclass(frozen=True)
class IntervalStrip:
    """One row's interval on the table's common scale, in percent of the width; None if absent.

    `beyond` says at which ends, left and right, the interval continues beyond the scale.
    """

    mean: float
    low: float | None
    high: float | None
    dots: tuple[float, ...]
    reference: float | None
    allowed: tuple[float, float] | None
    beyond: tuple[bool, bool]


@dataclass(frozen=True)
class IntervalStrips:
    """The strips of all configurations. `left` and `right` are the ends of the scale, in the unit of the measure."""

    left: float
    right: float
    rows: Mapping[str, IntervalStrip]

    @property
    def clipped(self) -> bool:
        """True if an interval continues beyond the scale."""
        return any(any(strip.beyond) for strip in self.rows.values())


@dataclass(frozen=True)
class ResultsData:
    """The captions of the tables of results and costs, and the interval strips."""

    caption: str
    costs: str
    strips: IntervalStrips | None


def costs_caption(run: RunReport) -> str:
    """The caption of the costs, with the configurations that were trained as one model with others."""
    largest = run.frame.groupby("configuration", sort=False)["stacked"].max()
    text = "Mean over seeds of each trial's last measurement."
    if stacked := [f"{name} (up to {members} trials)" for name, members in largest.items() if members > 1]:
        text += (
            f" Trials that were trained as one model have an equal part of its training time, and its whole speed: {', '.join(stacked)}."
        )
    return text


def mean_text(c: Configuration, measure: str) -> str:
    """The mean of a measure with its interval, the interquartile mean if there is one, and the binomial standard error of an accuracy."""
    texts = [wording.estimate_text(c.estimates[measure])]
    if measure in c.interquartile_means:
        texts.append(f"IQM {wording.estimate_text(c.interquartile_means[measure])}")
    if measure in c.binomial_errors:
        texts.append(f"s.e. {wording.number(c.binomial_errors[measure])}")
    return "; ".join(texts)


def results_caption(run: RunReport) -> str:
    """Caption of the table: the methods behind the means, intervals and latencies, and the reference."""
    methods = sorted({e.method for c in run.configurations for e in c.estimates.values() if e.method}, reverse=True)
    text = f"Mean over seeds and its 95% interval ({' and '.join(methods)})." if methods else "Mean over seeds."
    unit = "epoch" if run.frame["epoch"].notna().any() else "measurement"
    if run.confirmation is None or not run.confirmation.holdout:
        text += (
            f" “Best” is the best {unit} of each trial, selected on the split on which it is measured, so it is optimistic; “last” is "
            f"the last {unit}."
        )
    if any(c.interquartile_means for c in run.configurations):
        text += f" IQM: interquartile mean, from {INTERQUARTILE_FROM} values on, with its BCa interval."
    if sizes := sorted({c.examples for c in run.configurations if c.binomial_errors and c.examples}):
        examples = " or ".join(f"{size:,}" for size in sizes)
        text += f" S.e.: binomial standard error of the accuracy on {examples} examples, which the interval over seeds does not contain."
    if any(c.lost for c in run.configurations):
        text += " Means leave out trials that failed or diverged, so a configuration with such trials looks better than it is."
    if any(c.statuses.get("stopped") for c in run.configurations):
        text += " Trials stopped by a scheduler count with the values they had reached."
    if noise := max((c.costs.get("latency/noise_percent", 0.0) for c in run.configurations), default=0.0):
        reading = (
            "so the machine was noisy: only their order of magnitude is reliable" if noise > NOISY_PERCENT else "so they are repeatable"
        )
        text += f" Latencies, measured in two rounds, differ by up to {noise:.0f}% (mean over seeds), {reading}."
    if run.reference is not None:
        reference = run.reference
        text += f" Reference: {wording.metric(reference.metric)} in {reference.source} ({reference.precision}), with the margin "
        text += f"± {reference.tolerance:g} declared before the run. {reference.note}".rstrip()
    return text


def interval_strips(configurations: Sequence[Configuration], measure: str, reference: PublishedValues | None) -> IntervalStrips | None:
    """The estimates of `measure`, with the reference values if they are of this measure. None if nothing is measured."""
    tolerance = reference.tolerance if reference is not None and reference.measure == measure else None
    points: list[float] = []
    for c in configurations:
        points += c.values[measure].values()
        points += [c.reference] if tolerance is not None and c.reference is not None else []
    if not any(c.values[measure] for c in configurations):
        return None
    # The scale spans values, not intervals: the interval of two seeds can be ten times as wide as all values.
    pad = 0.08 * (max(points) - min(points)) or 0.05 * abs(max(points)) or 1.0
    pad = max(pad, 1.5 * (tolerance or 0.0))
    left, right = min(points) - pad, max(points) + pad

    def percent(value: float) -> float:
        return round(100 * min(max((value - left) / (right - left), 0.0), 1.0), 2)

    rows = {}
    for c in configurations:
        e = c.estimates[measure]
        if e.mean is None:
            continue
        reference_value = c.reference if tolerance is not None else None
        comparable = c.verdict is not None and c.verdict.word != NOT_COMPARABLE
        allowed = None
        if reference_value is not None and tolerance is not None and comparable:
            allowed = percent(reference_value - tolerance), percent(reference_value + tolerance)
        rows[c.name] = IntervalStrip(
            mean=percent(e.mean),
            low=None if e.low is None else percent(e.low),
            high=None if e.high is None else percent(e.high),
            dots=tuple(dict.fromkeys(percent(v) for v in c.values[measure].values())) if e.n > 1 else (),
            reference=None if reference_value is None else percent(reference_value),
            allowed=allowed,
            beyond=(e.low is not None and e.low < left, e.high is not None and e.high > right),
        )
    return IntervalStrips(left, right, rows)


def _build(run: RunReport, budget: EmbeddingBudget) -> ResultsData:
    strips = interval_strips(run.configurations, run.primary, run.reference)
    return ResultsData(results_caption(run), costs_caption(run), strips)


def results_table(run: RunReport) -> TableBlock:
    """The table of means with their trials, intervals, published values and verdicts, as text."""
    rows = []
    for c in run.configurations:
        means = [mean_text(c, measure) for measure in run.measures]
        row = [c.name, c.trials_text(run.primary), *means]
        if run.reference is not None:
            row += [wording.number(c.reference), f"{c.verdict.word}: {c.verdict.why}" if c.verdict else "no reference"]
        rows.append(row)
    columns = ["Configuration", "n", *(f"{measure}, 95% interval" for measure in run.measures)]
    columns += ["reference", "verdict"] if run.reference is not None else []
    return TableBlock(columns, rows, results_caption(run))


def _wandb(run: RunReport) -> Iterator[Block]:
    yield HeadingBlock("Results")
    yield results_table(run)
    if run.ordering is not None:
        scale = f" This is at {run.scale} scale." if run.scale != "paper" else ""
        yield TextBlock(f"{run.ordering.sentence}{scale}", caption=True)
    if run.costs:
        yield HeadingBlock("Cost", level=3)
        costs = [[c.name, *(wording.cost(c.costs.get(cost), cost) for cost in run.costs), c.precision] for c in run.configurations]
        columns = ["Configuration", *("training time" if cost == "elapsed_s" else cost for cost in run.costs), "precision"]
        yield TableBlock(columns, costs, costs_caption(run))


SECTION = Section("results.html.j2", _build, _wandb)
