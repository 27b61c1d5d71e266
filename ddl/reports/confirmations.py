"""Confirmations as plain data: what a search found, what fresh seeds found, and how much is left of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddl.reports import statistics
from ddl.reports.measures import Configuration, Measured
from ddl.reports.statistics import Comparison, Estimate
from ddl.reports.wording import estimate_text, metric, number
from ddl.units import count


@dataclass(frozen=True)
class Confirmed:
    """One configuration: its value in the search, its value on fresh seeds, and the shrinkage.

    The shrinkage is how much worse the confirmed value is than the search value, in the direction of the metric; negative if it is
    better. `evaluations` is the number of evaluations of a trial of the search. `missing` says how many trials on fresh seeds the mean
    lacks, and why, as `Configuration.missing_text`; `lost` is the number of those that failed or diverged, `left` of those that have not ended.
    """

    name: str
    search: Estimate
    evaluations: int
    confirmed: Estimate
    shrinkage: Estimate
    missing: str
    lost: int
    left: int

    @property
    def seeds_text(self) -> str:
        """The number of fresh seeds in the mean, such as "5 fresh seeds (of 8; 3 diverged)"."""
        return count(self.confirmed.n, "fresh seed") + (f" ({self.missing.strip()})" if self.missing else "")


@dataclass(frozen=True)
class Confirmation:
    """A confirmation. `configurations` are in the order of the search, best first.

    place: the run that is confirmed. measure: what the search compared. primary: what this run compares. compared: number of
    configurations in the search; winner: the best of them. holdout: fraction of the training data that became validation data; 0 if only
    the seeds are fresh. test_seen: True if the search compared its configurations on the test data. mode: direction of the metric. lead: a
    sentence on the lead of the first configuration over the second, or "".
    """

    place: str
    measure: str
    primary: str
    compared: int
    winner: str
    holdout: float
    test_seen: bool
    mode: str
    configurations: tuple[Confirmed, ...]
    lead: str

    @property
    def answer(self) -> str:
        """The main finding in one or two sentences."""
        best = self.configurations[0]
        if best.confirmed.mean is None:
            return f"“{best.name}” has no value on fresh seeds yet." if best.left else f"“{best.name}” has no value: {best.seeds_text}."
        text = f"“{best.name}” on {best.seeds_text}: {metric(self.confirmed_measure)} {estimate_text(best.confirmed)}"
        text += "" if self.mode == "max" else " (lower is better)"
        text += f", in the search {number(best.search.mean)}"
        text += f", the best of {self.compared} configurations" if self.compared > 1 and best.name == self.winner else ""
        if best.lost:
            text += f". Its mean leaves out the {count(best.lost, 'trial')} that failed or diverged, so it may be too good"
        return f"{text}. {self.lead}".strip()

    @property
    def confirmed_measure(self) -> str:
        """The measure on fresh seeds. On test data there is one evaluation, so neither a best nor a last one."""
        return self.primary.removeprefix("last ") if self.holdout else self.primary

    @property
    def reading(self) -> str:
        """A paragraph on what the two values are."""
        most = max(c.evaluations for c in self.configurations)
        of_search = (
            f"the best of up to {count(most, 'evaluation')} of each trial, " if self.measure.startswith("best ") and most > 1 else ""
        )
        text = f"The search value is {of_search}on the data that chose it, with the seeds that chose it."
        if not self.holdout:
            return f"{text} The task holds no data out: the confirmed value is of the same kind, but its seeds had no part in the choice."
        text += (
            f" The confirmed value is of one evaluation of each trial, on its test data, after the epoch that validation data chose. These "
            f"are {self.holdout:.0%} of the training data, so the trials were trained on less data than those of the search: a part of the "
            "shrinkage may come from that."
        )
        if self.test_seen:
            text += (
                " The test data are those on which the search compared its configurations. Seeds and epochs are independent of that; the choice of the "
                "configurations is not."
            )
        return text


def read_confirmation(confirms: Mapping[str, Any], measured: Measured, mode: str) -> Confirmation:
    """The confirmation that `confirms`, the entry of the run's record, and the measurements of the run describe."""
    by_name = {configuration.name: configuration for configuration in measured.configurations}
    configurations = tuple(
        _confirmed(name, values, confirms["evaluations"][name], by_name[name], measured.primary, mode)
        for name, values in confirms["configurations"].items()
    )
    return Confirmation(
        place=confirms["folder"],
        measure=confirms["measure"],
        primary=measured.primary,
        compared=confirms["compared"],
        winner=confirms["winner"],
        holdout=confirms["holdout"],
        test_seen=confirms["test_seen"],
        mode=mode,
        configurations=configurations,
        lead=_lead(configurations, measured.comparisons[measured.primary], mode),
    )


def _confirmed(name: str, values: Mapping[str, float], evaluations: int, ours: Configuration, measure: str, mode: str) -> Confirmed:
    searched, confirmed = list(values.values()), list(ours.values[measure].values())
    worse = (searched, confirmed) if mode == "max" else (confirmed, searched)
    return Confirmed(
        name=name,
        search=statistics.estimate(searched),
        evaluations=evaluations,
        confirmed=ours.estimates[measure],
        shrinkage=statistics.unpaired_difference(*worse),
        missing=ours.missing_text(measure),
        lost=ours.lost,
        left=ours.statuses.get("planned", 0) + ours.statuses.get("running", 0),
    )


def _lead(configurations: Sequence[Confirmed], comparisons: Sequence[Comparison], mode: str) -> str:
    """A sentence on whether the lead of the search's winner over its runner-up holds; "" if that is not measured."""
    measured = [c for c in configurations[:2] if c.confirmed.mean is not None]
    if len(measured) < 2:
        return ""
    best, second = (c.name for c in measured)
    (pair,) = [c for c in comparisons if {c.first, c.second} == {best, second}]
    lead = pair.lead_of(best, mode).mean
    if lead is None:
        return f"Its lead over “{second}” cannot be tested: no seed is common to both."
    fresh = (
        f"the {count(pair.difference.n, 'fresh seed')} on which both have a value" if any(c.missing for c in measured) else "fresh seeds"
    )
    amount = estimate_text(pair.lead_of(best if lead > 0 else second, mode))
    if pair.p_holm is None:
        return f"Its lead over “{second}” was not tested on {fresh}: {pair.untested}."
    if lead > 0:
        if pair.significant:
            return f"Its lead over “{second}” holds on {fresh}: {amount}, significant."
        return f"Its lead over “{second}” is not confirmed: {amount} on {fresh}, not significant."
    if lead == 0:
        return f"Its lead over “{second}” is gone: they are equal on {fresh}."
    reading = "significant" if pair.significant else "not significant"
    return f"Its lead over “{second}” does not hold: on {fresh} “{second}” is better by {amount}, {reading}."
