"""Command that publishes a run to W&B: `python -m ddl.tracking RUN [--follow] [--mode auto|online|offline|disabled]`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ddl.run_folder import check_links
from ddl.standard_streams import complain
from ddl.tracking.connection import MODES
from ddl.tracking.follow import follow
from ddl.tracking.publish import publish, publish_later


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m ddl.tracking", description="Replay a run into W&B.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's folder")
    parser.add_argument("--follow", action="store_true", help="publish while the sweep runs, until it ends")
    parser.add_argument("--driver", type=int, help="with --follow: process whose death ends it (default: its parent)")
    parser.add_argument("--mode", choices=MODES, help="default: the mode the run was launched with")
    given = parser.parse_args(arguments)
    if given.follow:
        signal.signal(signal.SIGTERM, lambda number, frame: _exit_now(given.run))
        return 0 if follow(given.run, given.mode, sys.stdout, given.driver) else 1
    try:
        check_links(given.run)
        print(publish(given.run, given.mode))
    except ValueError as error:
        complain(str(error))
        return 2
    return 0


def _exit_now(folder: Path) -> None:
    """End this process without W&B's exit handlers, which would wait for the server."""
    complain(f"W&B: stopped before everything was published. {publish_later(folder)}")
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
