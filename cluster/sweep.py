"""Starts a sweep under a scheduler, or resumes it: `python cluster/sweep.py --out DIR --sweep NAME ...`, with the options of launch.py.

If DIR has an unfinished run (the job's time ran out, it was preempted, a node was lost, a trial failed), the newest one is resumed.
Give each job its own DIR: the running sweep of another job looks unfinished too.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ddl.command_line import parser
from ddl.launch import main as launch
from ddl.ledger_reader import LedgerReader
from ddl.run import Run

UNFINISHED = ("planned", "running", "failed")


def newest_unfinished(out: Path) -> Path | None:
    """Folder of the newest run in `out` that a resume would continue, or None."""
    unfinished = []
    for run in map(Run, out.glob("*/*")):
        try:
            created = [LedgerReader(folder).run()["created"] for folder in run.folders]
            if created and (not run.report.exists() or any(trial.status in UNFINISHED for trial in run.trials)):
                unfinished.append((max(created), run.folder))
        except ValueError:  # the driver was killed before the ledger was complete
            continue
    return max(unfinished)[1] if unfinished else None


def main(argv: Sequence[str] | None = None) -> int:
    """Start or resume the sweep and return the exit status of launch.py."""
    # slurm.sh blocks SIGTERM to protect Ray's processes; the driver must receive it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    arguments = sys.argv[1:] if argv is None else list(argv)
    given = parser().parse_intermixed_args(arguments)
    if given.sweep is None:
        parser().error("cluster/sweep.py starts or resumes a sweep: name it with --sweep")
    run = newest_unfinished(Path(given.out or "runs"))
    if run is None:
        return launch(arguments)
    print(f"resuming {run}", flush=True)
    address = ["--address", given.address] if given.address else []
    return launch(["--resume", str(run), *address, *(["--check"] if given.check else [])])


if __name__ == "__main__":
    sys.exit(main())
