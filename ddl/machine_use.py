"""The runs that train on this machine, so that a second one can name the first.

Each describes itself in a file of its temporary folder, whose lock the kernel releases with the process.
"""

import json
import tempfile
from pathlib import Path

from ddl.durable import replace_file
from ddl.redaction import printable
from ddl.scratch import PREFIX, is_held

_FILE = "use.json"


def announce(scratch: Path, run: Path, cpus: int = 0, gpus: float = 0) -> None:
    """Describe the process's own run for `other_runs`. `scratch` is its folder by `scratch_folder("run")`. cpus, gpus: what it uses, if
    that is known."""
    replace_file(scratch / _FILE, json.dumps({"run": str(run.absolute()), "cpus": cpus, "gpus": gpus}).encode())


def other_runs(own: Path) -> list[str]:
    """A sentence for each run of this user that trains on this machine, but for the one with the temporary folder `own`."""
    found = []
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}run-*/{_FILE}")):
        if path.parent == own or not is_held(path.parent):
            continue
        try:
            use = json.loads(path.read_text(encoding="utf-8"))
            gpus = f" and {use['gpus']:g} GPU{'s' * (use['gpus'] != 1)}" if use["gpus"] else ""
            used = (
                f"uses {use['cpus']:d} CPU core{'s' * (use['cpus'] != 1)}{gpus} of this machine"
                if use["cpus"]
                else "is being planned on this machine"
            )
            found.append(f"another run {used}, so both are slower than alone: {printable(use['run'])}")
        except (OSError, ValueError, LookupError, TypeError):  # it has just ended, or is no file of ours
            continue
    return found
