"""Detects preemption of a Ray worker: a reclaimed spot instance, a drained node or a cancelled job."""

import faulthandler
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray._private.state import state as cluster
from ray.exceptions import RayActorError

POLL_EVERY_S = 3.0
"""Seconds between checks if the node is being drained. Clouds give 30 s (Azure, Google) to 2 min (AWS) of notice."""


@contextmanager
def preemption_notice() -> Iterator[Callable[[], bool]]:
    """Yields a function that is true once the process has received SIGTERM or its node is being drained.

    Works in any thread of a Ray worker. A trial does not run in the worker's main thread, the only one that may set a Python
    signal handler. `faulthandler` has no such limit: it writes a traceback to a file, and a non-empty file means SIGTERM.
    """
    ended = threading.Event()
    drained = threading.Event()
    node = ray.get_runtime_context().get_node_id()

    def watch() -> None:
        # The processes of a private cluster inherit a mask for SIGTERM (`ray_private.our_settings`). Unblock it in this thread, so
        # that no system call of the training is interrupted.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        while not drained.is_set() and not ended.wait(POLL_EVERY_S):
            if node in cluster.get_draining_nodes():
                drained.set()
        ended.wait()

    with tempfile.TemporaryFile() as traceback:
        faulthandler.register(signal.SIGTERM, file=traceback, all_threads=False, chain=False)
        thread = threading.Thread(target=watch, name="preemption", daemon=True)
        thread.start()
        try:
            yield lambda: drained.is_set() or os.fstat(traceback.fileno()).st_size > 0
        finally:
            ended.set()
            thread.join()
            faulthandler.unregister(signal.SIGTERM)


def restart(reason: str) -> RayActorError:
    """The error to raise so that Tune restarts the trial without counting a retry."""
    return RayActorError(error_msg=reason, preempted=True)
