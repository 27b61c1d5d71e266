"""Sentences that lead the report: the notice on the data, the main finding, the setting, and the comparison with the reference."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ddl.reports import verdicts
from ddl.reports.data_sets import DataDescription
from ddl.reports.measures import Configuration, Measured
from ddl.reports.published import PublishedValues
from ddl.reports.statistics import Comparison
from ddl.reports.wording import estimate_text, metric, number
from ddl.units import count

POPULATION = (
    "Trials continued from each other's weights with changed hyperparameters. Configurations have the names and hyperparameters that their "
    "trials began with, their seeds are not independent, and differences between them are not tested."
)


def data_notice(data: Sequence[DataDescription]) -> str:
    """Warning that the data are a sample or a fallback data set; "" if they are complete and genuine."""
    sentences = []
    for d, sizes in _by_label(data):
        if d.fallback_for:
            sentences.append(f"The data are {d.name} ({d.source}), a fallback data set for {d.fallback_for}{sizes}.")
        elif not d.complete:
            sentences.append(f"The data are a sample of {d.name}, not the full data set: {d.source}{sizes}.")
    return " ".join(sentences)


def notices(data: Sequence[DataDescription], record: Mapping[str, Any]) -> dict[str, str]:
    """Warnings by their first words: on the data, on code that changed during the run, and on trials that continued from each other."""
    changed = ", ".join(record.get("changed_code") or [])
    found = {
        "Not the full data.": data_notice(data),
        "Changed code.": f"The code changed during the run ({changed}): not all trials were trained by the same code." if changed else "",
        "Population based training.": POPULATION if record.get("population") else "",
    }
    return {first: text for first, text in found.items() if text}


def data_caption(data: Sequence[DataDescription]) -> str:
    """Note for every table and figure if the data are a sample or a fallback data set, else ""."""
    return "; ".join(f"Data: {d.label}" for d, _ in _by_label(data) if not d.genuine)


def race_end(race: Mapping[str, Any]) -> str:
    """One sentence on how a race over seeds ended, or how far it is. `race` is the entry of the run's record."""
    left, seeds = [f"“{name}”" for name in race["left"]], race["seeds"]
    if race["outcome"] == "winner":
        return f"The race is settled after {seeds} seeds: {left[0]} is better than every other configuration."
    if race["outcome"] == "equivalent":
        return f"The race is settled after {seeds} seeds: {', '.join(left)} differ by at most {number(race['rules']['margin'])}."
    if race["outcome"] == "undecided":
        return f"The race is not settled after {seeds} seeds: {', '.join(left)} cannot be distinguished."
    return f"The race continues with {', '.join(left)}."


def answer(measured: Measured, race: Mapping[str, Any] | None = None) -> str:
    """The best configuration, and if the next one differs significantly, or how the race ended."""
    ranked = measured.best_first
    if not ranked:
        finished = any(configuration.counted for configuration in measured.configurations)
        return f"No trial has a value of {metric(measured.primary)} yet." if finished else "No trial has finished yet."
    best = ranked[0]
    estimate = best.estimates[measured.primary]
    leads = "leads on" if len(measured.configurations) > 1 else "is the only configuration;"
    if best.lost and len(measured.configurations) > 1:
        leads = "has the best mean of the trials that ended well, by"
    text = f"“{best.name}” {leads} {metric(measured.primary)}{'' if measured.primary_mode == 'max' else ' (lower is better)'}: {estimate_text(estimate)}"
    trials = best.trials_text(measured.primary)
    text += f", n = {trials}." if estimate.low is not None else f" (n = {trials}, so no interval)."
    if best.lost:
        text += f" Its mean leaves out the {count(best.lost, 'trial')} that failed or diverged, so it may be too good."
    if race:
        return f"{text} {race_end(race)}"
    if len(ranked) == 1:
        return text
    second = ranked[1]
    (between,) = [c for c in measured.comparisons[measured.primary] if {c.first, c.second} == {best.name, second.name}]
    text += f" “{second.name}” is second with {number(second.estimates[measured.primary].mean)}"
    if second.lost:
        text += f", n = {second.trials_text(measured.primary)}"
    if between.p_holm is None:
        return text + f" (difference not tested: {between.untested})."
    lead = between.lead_of(best.name, measured.primary_mode).mean
    if lead is not None and lead < 0:
        reading = "significant" if between.significant else "not significant"
        seeds = count(between.difference.n, "seed")
        return text + f", but on the {seeds} that both have “{second.name}” is better by {number(-lead)} ({reading})."
    return text + (
        " (difference significant)."
        if between.significant
        else " (difference not significant, so these seeds cannot tell which is better)."
    )


def reading(comparison: Comparison, margin: float) -> str:
    """The outcome of a comparison in words. "Cannot tell" is no finding; "no difference" is one, and needs a `margin` above 0.

    There is no difference of the margin or more if the whole 95% interval of the difference is within ± margin (Schuirmann 1987).
    """
    low, high = comparison.difference.low, comparison.difference.high
    if comparison.p_holm is None:
        return f"not tested: {comparison.untested}"
    within = margin > 0 and low is not None and high is not None and -margin < low and high < margin
    if comparison.significant:
        return f"significant, but smaller than {margin:g}" if within else "significant"
    if low == high == 0:
        return "identical values"
    return f"no difference of {margin:g} or more" if within else "cannot tell: difference not significant"


def setting(measured: Measured, statuses: Mapping[str, int], scale: str) -> str:
    """Number of configurations and seeds, scale and data, and how many trials finished."""
    trials = sum(statuses.values())
    per_configuration = {sum(c.statuses.values()) for c in measured.configurations}
    text = count(len(measured.configurations), "configuration")
    if len(per_configuration) == 1:
        text += f" \N{MULTIPLICATION SIGN} {count(per_configuration.pop(), 'seed')}"
    else:
        text += f", {count(trials, 'trial')}"
    text += f" at {scale} scale" if scale else ""
    text += f", on {'; '.join(d.label + sizes for d, sizes in _by_label(measured.data))}" if measured.data else ""
    others = [f"{n} {status}" for status, n in statuses.items() if n and status != "finished"]
    return f"{text}. {statuses['finished']:,} of {count(trials, 'trial')} finished{''.join(f', {o}' for o in others)}."


def judgement(measured: Measured) -> str:
    """Number of configurations by verdict in one sentence; "" without a reference."""
    if measured.reference is None:
        return ""
    words = Counter(c.verdict.word for c in measured.configurations if c.verdict is not None)
    if not words:
        return f"This run has no configuration with a value in {measured.reference.source}."
    order = (verdicts.REPRODUCED, *verdicts.NOT_REPRODUCED, verdicts.CANNOT_TELL, verdicts.NOT_COMPARABLE)
    text = f"Compared with {measured.reference.source}: {', '.join(f'{words[word]} {word}' for word in order if words[word])}."
    reasons = {c.verdict.why for c in measured.configurations if c.verdict is not None}
    if words[verdicts.NOT_COMPARABLE] and len(reasons) == 1:
        text += f" Reason: {reasons.pop()}."
    return text


def against_reference(configuration: Configuration, reference: PublishedValues) -> str:
    """One configuration's verdict with its estimate and reference value, in one line. Better and worse are "not reproduced" too."""
    assert configuration.verdict is not None
    assert reference.measure is not None
    estimate = configuration.estimates[reference.measure]
    word = configuration.verdict.word
    shown = f"not reproduced ({word})" if word in verdicts.NOT_REPRODUCED else word
    return (
        f"{shown}, {configuration.verdict.why}: {reference.measure} {estimate_text(estimate)}, n = {estimate.n}, "
        f"reference {number(configuration.reference)} ({reference.source})"
    )


def split_sizes(data: DataDescription) -> str:
    """Numbers of examples in brackets, such as " (100 train + 10 val examples)"; "" if they are unknown."""
    sizes = [f"{n:,} {split}" for n, split in ((data.train, "train"), (data.val, "val")) if n is not None]
    return f" ({' + '.join(sizes)} examples)" if sizes else ""


def _by_label(data: Sequence[DataDescription]) -> list[tuple[DataDescription, str]]:
    """Each data set once, with all its sizes: windows of different lengths give different numbers of examples of one text."""
    sizes: dict[str, list[str]] = {}
    for d in data:
        sizes.setdefault(d.label, []).append(split_sizes(d))
    first = {d.label: d for d in reversed(data)}
    return [(first[label], " or".join(dict.fromkeys(filter(None, texts)))) for label, texts in sizes.items()]
