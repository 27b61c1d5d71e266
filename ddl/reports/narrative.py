"""The report's sentences and fact lists, as text."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddl.ledger import TrialRow
from ddl.reports import verdicts
from ddl.reports.measures import Configuration, DataDescription, Measured, PublishedValues
from ddl.reports.wording import count, interval, metric, number, ranges
from ddl.units import duration, size

NOISY_PERCENT = 10


@dataclass(frozen=True)
class PlanSummary:
    """What was planned: `rows` (label, text), `probes` (a row each, as recorded), and the ETA against what it took."""

    rows: tuple[tuple[str, str], ...]
    probes: tuple[Mapping[str, Any], ...]
    eta: str


def data_notice(data: Sequence[DataDescription]) -> str:
    """What must not be overlooked about the data; "" where they are complete and the real thing."""
    said = []
    for d, amount in _together(data):
        if d.fallback_for:
            said.append(f"The data are {d.name} ({d.source}) and only stand in for {d.fallback_for}{amount}.")
        elif not d.complete:
            said.append(f"The data are a sample of {d.name}, not the whole: {d.source}{amount}.")
    return " ".join(said)


def caption(data: Sequence[DataDescription]) -> str:
    """For under every table and figure where the data are not the whole, real thing."""
    return "; ".join(f"Data: {d.label}" for d, _ in _together(data) if not d.genuine)


def answer(measured: Measured, mode: str) -> str:
    ranked = measured.ranked(measured.primary, mode)
    if not ranked:
        return "No trial has finished yet."
    best = ranked[0]
    estimate = best.estimates[measured.primary]
    text = f"“{best.name}” leads on {metric(measured.primary)}{'' if mode == 'max' else ' (lower is better)'}: {number(estimate.mean)}"
    text += f" {interval(estimate)}, n = {estimate.n}." if estimate.low is not None else " (n = 1, so without an interval)."
    if len(ranked) == 1:
        return text
    second = ranked[1]
    (between,) = [c for c in measured.comparisons[measured.primary] if {c.first, c.second} == {best.name, second.name}]
    text += f" Next comes “{second.name}” with {number(second.estimates[measured.primary].mean)}"
    if between.p_holm is None:
        return text + f" (not tested: {between.untested})."
    return text + (" (significantly different)." if between.significant else " (difference not significant).")


def setting(measured: Measured, statuses: Mapping[str, int], scale: str) -> str:
    trials = sum(statuses.values())
    per_configuration = {sum(c.statuses.values()) for c in measured.configurations}
    text = count(len(measured.configurations), "configuration")
    text += (
        f" \N{MULTIPLICATION SIGN} {count(per_configuration.pop(), 'seed')}"
        if len(per_configuration) == 1
        else f", {count(trials, 'trial')}"
    )
    text += f" at {scale} scale" if scale else ""
    text += f", on {'; '.join(d.label + amount for d, amount in _together(measured.data))}" if measured.data else ""
    others = [f"{n} {status}" for status, n in statuses.items() if n and status != "finished"]
    return f"{text}. {statuses['finished']:,} of {count(trials, 'trial')} finished{''.join(f', {o}' for o in others)}."


def judgement(measured: Measured) -> str:
    """How the run stands against its reference, in one sentence; "" without one."""
    if measured.reference is None:
        return ""
    words = Counter(c.verdict.word for c in measured.configurations if c.verdict is not None)
    if not words:
        return f"None of the values of {measured.reference.source} was run here."
    said = [f"{words[word]} {word}" for word in (
        verdicts.REPRODUCED, verdicts.NOT_REPRODUCED, verdicts.INCONCLUSIVE, verdicts.NOT_COMPARABLE
    ) if words[word]]  # fmt: skip
    text = f"Against {measured.reference.source}: {', '.join(said)}."
    reasons = {c.verdict.why for c in measured.configurations if c.verdict is not None}
    if words[verdicts.NOT_COMPARABLE] and len(reasons) == 1:
        text += f" Why: {reasons.pop()}."
    return text


def against_reference(configuration: Configuration, reference: PublishedValues) -> str:
    """One configuration's verdict with its figures, in one line."""
    assert configuration.verdict is not None
    assert reference.measure is not None
    estimate = configuration.estimates[reference.measure]
    return (
        f"{configuration.verdict.word}, {configuration.verdict.why}: {reference.measure} {number(estimate.mean)} "
        f"{interval(estimate)}, n = {estimate.n}, against {number(configuration.reference)} ({reference.source})"
    )


def method(measured: Measured) -> str:
    methods = sorted({e.method for c in measured.configurations for e in c.estimates.values() if e.method}, reverse=True)
    text = f"Mean over seeds and its 95% interval ({' and '.join(methods)})." if methods else "Mean over seeds."
    text += " Best is the best epoch of each trial, picked on the very split it is measured on, which flatters it; last is the last epoch."
    if any(c.statuses.get("stopped") for c in measured.configurations):
        text += " Trials that a scheduler stopped count with what they had reached."
    if noise := max((c.costs.get("latency/noise_percent", 0.0) for c in measured.configurations), default=0.0):
        said = "so the machine was noisy: read them as orders of magnitude" if noise > NOISY_PERCENT else "so they repeat"
        text += f" Latencies, measured twice in turn, differ by up to {noise:.0f}% (mean over seeds), {said}."
    return text


def curves_note(measured: Measured, shown: Sequence[str]) -> str:
    total = len(measured.configurations)
    return f"The {len(shown)} best of {total} configurations by {metric(measured.primary)}." if len(shown) < total else ""


def plan_summary(run: Mapping[str, Any], trials: Sequence[TrialRow], ended: bool) -> PlanSummary:
    given = run.get("plan") or {}
    worded: dict[str, tuple[str, Callable[[Any], str]]] = {
        "executor": ("Executor", str),
        "precision": ("Precision", str),
        "nodes": ("Nodes", str),
        "trials": ("Trials", str),
        "concurrent": ("Side by side", str),
        "cpus_per_trial": ("CPU cores a trial", str),
        "gpus_per_trial": ("GPUs a trial", "{:g}".format),
        "disk_bytes": ("Disk needed", size),
    }
    rows = [(label, text(given[key])) for key, (label, text) in worded.items() if given.get(key) not in (None, "")]
    eta = f"Expected {duration(given['eta_s'])}" if given.get("eta_s") is not None else ""
    began = [t.started_at for t in trials if t.started_at is not None]
    finished = [t.ended_at for t in trials if t.ended_at is not None]
    if ended and began and finished:
        took = max(finished) - min(began)
        eta = f"{eta}; took {duration(took)}" if eta else f"Took {duration(took)}"
        eta += f", {took / given['eta_s']:.2f} times that" if given.get("eta_s") else ""
        eta += " (from the first trial's start to the last one's end, pauses included)"
    return PlanSummary(tuple(rows), tuple(given.get("probes") or ()), f"{eta}." if eta else "")


def reproduction_record(
    run: Mapping[str, Any], name: str, trials: Sequence[TrialRow], data: Sequence[DataDescription], ended: bool
) -> tuple[tuple[str, str], ...]:
    """(label, text) of everything that is recorded and needed to run it again."""
    host = run.get("host") or {}
    machine = [f"{host['cores']} cores" if host.get("cores") else "", host.get("cpu", "")]
    machine += [f"{host['memory_gb']:.0f} GB memory" if host.get("memory_gb") else "", host.get("os", "")]
    rows = [
        ("Command", run.get("command", "")),
        ("To finish it", "" if ended else run.get("resume", "")),
        ("Overrides", shlex.join(run.get("overrides", []))),
        ("Run", name),
        ("Begun", run.get("created", "")),
        ("Commit", run.get("commit", "") + ("; its uncommitted changes are kept in the ledger" if run.get("diff") else "")),
        ("Versions", ", ".join(f"{package} {version}" for package, version in (run.get("versions") or {}).items())),
        ("Host", ", ".join(part for part in machine if part)),
        ("GPUs", ", ".join(str(gpu) for gpu in host.get("gpus") or ())),
        ("Seeds", ranges(sorted({t.seed for t in trials}))),
    ]
    rows += [("Data", f"{d.label}{_amount(d)}" + (f", sha256 {d.sha256}" if d.sha256 else "")) for d in data]
    return tuple((label, text) for label, text in rows if text)


def _together(data: Sequence[DataDescription]) -> list[tuple[DataDescription, str]]:
    """Each kind of data once, with the amounts that configurations took of it: windows of other lengths make other numbers of
    examples of one text."""
    amounts: dict[str, list[str]] = {}
    kinds: dict[str, DataDescription] = {}
    for d in data:
        kinds.setdefault(d.label, d)
        amounts.setdefault(d.label, []).append(_amount(d))
    return [(d, " or".join(dict.fromkeys(filter(None, amounts[label])))) for label, d in kinds.items()]


def _amount(data: DataDescription) -> str:
    sizes = [f"{n:,} {split}" for n, split in ((data.train, "train"), (data.val, "val")) if n is not None]
    return f" ({' + '.join(sizes)} examples)" if sizes else ""
