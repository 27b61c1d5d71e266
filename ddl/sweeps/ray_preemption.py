"""Notice that this process, or its node, is about to be taken away: a spot instance reclaimed, a node drained, a job cancelled."""

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

LOOK_EVERY_S = 3.0
"""Between questions to the cluster whether it drains this node; clouds give from 30 s (Azure, Google) to 2 min (AWS) of notice."""


@contextmanager
def preemption_notice() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM came, or the node is drained, since this began. In a Ray worker, from any thread.

    A trial runs in a thread of its own there, and Python lets the main thread alone set a handler: faulthandler's is the one that
    any thread can set. It writes where the process stood, and that something was written is the notice.
    """
    ended = threading.Event()
    drained = threading.Event()
    node = ray.get_runtime_context().get_node_id()

    def watch() -> None:
        # A private cluster's processes have the signal masked, so that they outlive the driver's orderly stop. The thread that
        # takes it is this one: nothing it does can be interrupted.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        while not drained.is_set() and not ended.wait(LOOK_EVERY_S):
            if node in cluster.get_draining_nodes():
                drained.set()
        ended.wait()

    with tempfile.TemporaryFile() as written:
        faulthandler.register(signal.SIGTERM, file=written, all_threads=False, chain=False)
        thread = threading.Thread(target=watch, name="preemption", daemon=True)
        thread.start()
        try:
            yield lambda: drained.is_set() or os.fstat(written.fileno()).st_size > 0
        finally:
            ended.set()
            thread.join()
            faulthandler.unregister(signal.SIGTERM)


def preempted(reason: str) -> RayActorError:
    """What ends a trial's process so that Tune starts it again without counting a failure, as for a node that was taken away."""
    return RayActorError(error_msg=reason, preempted=True)
