"""The script of a process that times a pack of trials for `local_probe`."""

import sys
import threading
import traceback
from multiprocessing.connection import Connection

from ddl.sweeps.assignment import device_of
from ddl.sweeps.child_processes import end_process
from ddl.timings import Timings
from ddl.trial_errors import TRIAL_ERRORS, error_line

READY = "ready"
"""Message of a process whose timed steps come next. It waits for an answer."""


def main() -> None:
    """Receive a pack, and what else `time_pack` needs, and send its timings, or the message of a process that hangs.

    The last argument is the descriptor of the connection. The process ends when the other end is closed.
    """
    from ddl.sweeps.probe import time_pack  # imports torch, which the driver, that imports this module too, does without

    connection: Connection = Connection(int(sys.argv[-1]))
    may_begin = threading.Event()

    def ready() -> None:
        if not may_begin.is_set():
            connection.send(READY)
            may_begin.wait()

    def give_up(message: str) -> None:
        connection.send(message)
        end_process()

    try:
        pack, precisions, window_s, stall_s = connection.recv()
        threading.Thread(target=_wait_for_driver, args=(connection, may_begin), daemon=True).start()
        timings = time_pack(pack, device_of(pack.first), precisions, window_s, ready, stall_s, give_up)
    except TRIAL_ERRORS as error:  # importing the task's module may raise any error
        traceback.print_exc()
        timings = Timings([], {"": error_line(error)}, traceback.format_exc())
    connection.send(timings)
    end_process()


def _wait_for_driver(connection: Connection, may_begin: threading.Event) -> None:
    """Set `may_begin` when the driver says so, and end this process when the driver has closed the connection."""
    try:
        connection.recv()
        may_begin.set()
        connection.recv()
    except (EOFError, OSError):
        end_process()


if __name__ == "__main__":
    main()
