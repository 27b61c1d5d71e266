"""The records of a run that are needed to repeat it."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ddl.reports.model import RunReport
from ddl.reports.narrative import split_sizes
from ddl.reports.sections.section import Block, HeadingBlock, Section, TableBlock
from ddl.reports.wording import ranges


def reproduction_record(run: RunReport) -> tuple[tuple[str, str], ...]:
    """(label, text) of each record that is needed to repeat the run."""
    record = run.record
    host = record.get("host") or {}
    machine = [f"{host['cores']} cores" if host.get("cores") else "", host.get("cpu", "")]
    machine += [f"{host['memory_gb']:.0f} GB memory" if host.get("memory_gb") else "", host.get("os", "")]
    rows = [
        ("Command", record.get("command", "")),
        ("Resume command", "" if run.ended else record.get("resume", "")),
        ("Overrides", shlex.join(record.get("overrides", []))),
        ("Run", run.name),
        ("Started", record.get("created", "")),
        ("Own code", ", ".join(f"{name} (sha256 {digest[:12]})" for name, digest in (record.get("code") or {}).items())),
        ("Commit of ddl", record.get("commit", "") + ("; the ledger has its uncommitted changes" if record.get("diff") else "")),
        ("Versions", ", ".join(f"{package} {version}" for package, version in (record.get("versions") or {}).items())),
        ("Host", ", ".join(part for part in machine if part)),
        ("GPUs", ", ".join(str(gpu) for gpu in host.get("gpus") or ())),
        ("Trained on", "; ".join(f"{name}: {trials} trials" for name, trials in _devices(run).items())),
        ("Seeds", ranges(sorted({t.seed for t in run.trials}))),
    ]
    rows += [("Data", f"{d.label}{split_sizes(d)}" + (f", sha256 {d.sha256}" if d.sha256 else "")) for d in run.data]
    return tuple((label, text) for label, text in rows if text)


def _devices(run: RunReport) -> Counter[str]:
    """The number of trials on each kind of device, by its description. A trial that was restarted counts for its last device."""
    devices = (trial.metadata.get("device") or {} for trial in run.trials if trial.metadata)
    return Counter(_describe(device) for device in devices if device.get("name"))


def _describe(device: Mapping[str, Any]) -> str:
    if device["type"] != "cuda":
        return f"{device['name']} (CPU)"
    details = [f"{device['memory_bytes'] / 2**30:.0f} GiB", f"driver {device['driver_version']}" if device.get("driver_version") else ""]
    return f"{device['name']} ({', '.join(detail for detail in details if detail)})"


def _wandb(run: RunReport) -> Iterator[Block]:
    yield HeadingBlock("Reproduction")
    yield TableBlock(["record", "value"], reproduction_record(run), "From the run's ledger.")


SECTION = Section("reproduction.html.j2", build=lambda run, budget: reproduction_record(run), wandb=_wandb)
