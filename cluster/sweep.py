"""A sweep as a scheduler starts it, and starts it again: `python cluster/sweep.py --out DIR --sweep NAME ...`, as for launch.py.

Where DIR holds a run that is not finished (the job's time ran out, it was preempted, its node was lost, a trial failed), the
newest is gone on with; else the sweep begins. DIR has to be the job's own: a run that another job is at looks unfinished too.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ddl.launch import main as launch
from ddl.launch import parser
from ddl.ledger import LedgerReader
from ddl.run import Run

LEFT = ("planned", "running", "failed")


def newest_unfinished(out: Path) -> Path | None:
    """The folder of the run in `out` that was begun last, of those in which a resume has something to do."""
    found = []
    for run in map(Run, out.glob("*/*")):
        try:
            begun = [LedgerReader(folder).run()["created"] for folder in run.folders]
            if begun and (not run.report.exists() or any(trial.status in LEFT for trial in run.trials)):
                found.append((max(begun), run.folder))
        except ValueError:  # cut off before it began
            continue
    return max(found)[1] if found else None


def main(argv: Sequence[str] | None = None) -> int:
    # Who shields Ray's processes from a SIGTERM to all of a job's (slurm.sh) does not mean this one.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    arguments = sys.argv[1:] if argv is None else list(argv)
    given = parser().parse_intermixed_args(arguments)
    if given.sweep is None:
        parser().error("cluster/sweep.py starts a sweep, or goes on with one: name it with --sweep")
    run = newest_unfinished(Path(given.out))
    if run is None:
        return launch(arguments)
    print(f"going on with {run}", flush=True)
    where = ["--address", given.address] if given.address else []
    return launch(["--resume", str(run), *where, *(["--check"] if given.check else [])])


if __name__ == "__main__":
    sys.exit(main())
