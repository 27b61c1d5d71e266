"""The plan of a run: what each trial was allocated, the timing probe, and the expected and actual duration."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ddl.reports import wording
from ddl.reports.embedding import EmbeddingBudget
from ddl.reports.model import RunReport
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock
from ddl.units import duration, size

STACKED = " The training time of a trial is that of all trials of its model."
PROBES = "Speed measured by a timing probe of a few steps before the sweep, and the training time estimated from it."


@dataclass(frozen=True)
class PlanSummary:
    """The plan as `rows` (label, text), the timing probes as recorded, and the expected and actual duration as a sentence."""

    rows: tuple[tuple[str, str], ...]
    probes: tuple[Mapping[str, Any], ...]
    eta: str


def plan_summary(run: RunReport) -> PlanSummary:
    """The run's plan as text."""
    plan = run.record.get("plan") or {}
    labels: dict[str, tuple[str, Callable[[Any], str]]] = {
        "executor": ("Executor", str),
        "precision": ("Precision", str),
        "nodes": ("Nodes", str),
        "trials": ("Trials", str),
        "concurrent": ("Concurrent trials", str),
        "cpus_per_trial": ("CPU cores per trial", str),
        "gpus_per_trial": ("GPUs per trial", "{:g}".format),
        "disk_bytes": ("Disk needed", size),
    }
    rows = [(label, text(plan[key])) for key, (label, text) in labels.items() if plan.get(key) not in (None, "")]
    failed = plan.get("failed_precisions") or {}
    rows += [("Not used", "; ".join(f"{name or 'timing probe'}: {reason}" for name, reason in failed.items()))] if failed else []
    if stacks := plan.get("stacks") or []:
        rows.append(("Trained as one model", "; ".join(map(_stack_text, stacks)) + f".{STACKED if any(s['used'] for s in stacks) else ''}"))
    eta = f"Expected {duration(plan['eta_s'])}" if plan.get("eta_s") is not None else ""
    starts = [t.started_at for t in run.trials if t.started_at is not None]
    ends = [t.ended_at for t in run.trials if t.ended_at is not None]
    if run.ended and starts and ends:
        actual = max(ends) - min(starts)
        eta = f"{eta}; took {duration(actual)}" if eta else f"Took {duration(actual)}"
        eta += f", {actual / plan['eta_s']:.2f} times the estimate" if plan.get("eta_s") else ""
        eta += " (from the start of the first trial to the end of the last one, pauses included)"
    return PlanSummary(tuple(rows), tuple(plan.get("probes") or ()), f"{eta}." if eta else "")


def _stack_text(stack: Mapping[str, Any]) -> str:
    """A timing of trials as one model, as text."""
    each = f"{duration(stack['stacked_s'])} each instead of {duration(stack['alone_s'])}"
    return f"{'up to' if stack['used'] else 'not used:'} {stack['members']} trials ({stack['configuration']}, ...), {each}"


def _build(run: RunReport, budget: EmbeddingBudget) -> PlanSummary | None:
    summary = plan_summary(run)
    return summary if summary.rows or summary.probes or summary.eta else None


def _wandb(run: RunReport) -> Iterator[Block]:
    summary = plan_summary(run)
    if summary.rows or summary.probes:
        yield HeadingBlock("Plan")
        yield TableBlock(["planned", ""], summary.rows, summary.eta)
    if summary.probes:
        rows = [
            [
                probe.get("configuration", ""),
                wording.number(probe.get("steps_per_s")),
                wording.cost(probe.get("seconds_per_trial"), "elapsed_s"),
                probe.get("precision", ""),
            ]
            for probe in summary.probes
        ]
        yield TableBlock(["Configuration", "steps / s", "expected per trial", "precision"], rows, PROBES)


SECTION = Section("plan.html.j2", _build, _wandb)
