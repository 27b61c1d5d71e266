"""Check of ddl on one GPU: correctness of every task, speed, sharing, and the plan next to reality. At most 8 minutes.

    python -m benchmarks.gpu [--sections device tasks ...] [--seconds 480] [--out gpu-check] [--rehearse]

Run it from the repository's root, or from the folder of an unpacked bundle (cluster/bundle.sh). Each section runs in a process of
its own. It may take the seconds that are reserved for it (`SECTIONS`), and those that earlier sections have left. Results are printed
as a table and written to OUT/results.json after each section. Exits with 1 if a check fails, or if a section does not end in time or
is not reached. `--rehearse` runs every section on the CPU at the smallest size, without the checks of speed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.gpu.sections import SECTIONS, Section
from ddl.devices import Device
from ddl.gpus import machine_gpus

ROOT = Path(__file__).resolve().parents[2]

SECONDS = 480
"""Time for all sections."""

SHORTEST_S = 10
"""No section starts with less time."""

REHEARSAL_S = 600
"""Time for each section of a rehearsal."""


def main() -> int:
    """Run the chosen sections and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no section starts after this time, or runs past it")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"))
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at the smallest size")
    parser.add_argument("--run-section", choices=SECTIONS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out = given.out.resolve()
    if given.run_section:
        return _run_section(given.run_section, given.out, given.rehearse)
    given.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + given.seconds
    results = []
    for number, name in enumerate(given.sections):
        limit_s = _limit_s(name, given.sections[number + 1 :], ends - time.monotonic())
        results.append(_in_process(name, given.out, given.rehearse, REHEARSAL_S if given.rehearse else limit_s))
        (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        _show(results[-1])
    failed = [f"{result['section']}: {name} ({detail})" for result in results for name, passed, detail in result["checks"] if not passed]
    print(f"{len(failed)} checks failed" + "".join(f"\n  FAILED {line}" for line in failed))
    return 1 if failed else 0


def _limit_s(name: str, later: Sequence[str], left_s: float) -> float:
    """Seconds that a section may take: what is left without the seconds of `later` sections, or its own seconds if that is more."""
    return min(left_s, max(SECTIONS[name][1], left_s - sum(SECTIONS[other][1] for other in later)))


def _in_process(name: str, out: Path, rehearse: bool, limit_s: float) -> dict[str, Any]:
    """Run a section in a process of its own, and end it and all its processes after its time."""
    result = out / f"{name}.json"
    result.unlink(missing_ok=True)
    if limit_s < SHORTEST_S:
        return _unfinished(name, f"not reached: {max(limit_s, 0):.0f} s were left", 0.0)
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu", "--run-section", name, "--out", str(out), *(["--rehearse"] if rehearse else [])]
    with (out / f"{name}.out").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = time.monotonic() - began
    if not result.exists():
        return _unfinished(name, f"it did not end within {limit_s:.0f} s, or died; see {out / f'{name}.out'}", seconds)
    return json.loads(result.read_text()) | {"seconds": seconds}


def _unfinished(name: str, reason: str, seconds: float) -> dict[str, Any]:
    return {"section": name, "rows": [], "checks": [["the section ends", False, reason]], "seconds": seconds}


def _run_section(name: str, out: Path, rehearse: bool) -> int:
    gpus = machine_gpus()
    if not rehearse and not gpus.usable:
        raise SystemExit("no usable GPU. " + " ".join(gpus.problems) + " Use --rehearse to run on the CPU.")
    device = torch.device("cpu") if rehearse else torch.device("cuda", gpus.usable[0].index)
    section = Section(Device(device), out, rehearse)
    try:
        SECTIONS[name][0](section)
    finally:
        content = {"section": name, "rows": section.rows, "checks": section.checks}
        if sys.exc_info()[1] is not None:
            content["checks"] = [*section.checks, ("the section ends", False, repr(sys.exc_info()[1]))]
        (out / f"{name}.json").write_text(json.dumps(content))
    return 0


def _show(result: dict[str, Any]) -> None:
    console = Console(width=160, highlight=False)
    console.rule(f"{result['section']} ({result['seconds']:.0f} s)", align="left")
    for name, value, unit in result["rows"]:
        text = f"{value:,.4g}" if isinstance(value, float) else str(value)
        console.print(f"  {name}: {text} {unit}".rstrip(), markup=False)
    for name, passed, detail in result["checks"]:
        if not passed:
            console.print(f"  FAILED {name}: {detail}", markup=False)
    console.print(f"  {sum(bool(passed) for _, passed, _ in result['checks'])} of {len(result['checks'])} checks passed", markup=False)


if __name__ == "__main__":
    raise SystemExit(main())
