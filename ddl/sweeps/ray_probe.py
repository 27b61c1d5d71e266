"""Timing probes in Ray's worker processes."""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import Any

import ray
from ray.experimental import internal_kv

from ddl import ray_private
from ddl.sweeps.assignment import device_of
from ddl.sweeps.child_processes import end_process
from ddl.sweeps.executor_died import ExecutorDied
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe_limits import MEETING_S
from ddl.timings import Timings
from ddl.trial_errors import error_line

PROCESS_DIED = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
"""Errors that Ray raises if a task's process dies: by itself, with its node, or ended because the node was short of memory."""


def probe_on_cluster(
    packs: Sequence[Pack], precisions: list[str] | None, window_s: float, stall_s: float
) -> tuple[list[Timings], list[int]]:
    """`time_pack` of all packs at once, each in a process of its own: (the timings of each pack, the packs whose process died).

    A process that hangs has timings that say so.
    """
    # A process keeps the first GPU it used, its memory and its peak, so one with a GPU ends with its probe.
    gpus = packs[0].first.gpus
    remote = ray.remote(max_retries=0, max_calls=1 if gpus else 0)(_probe)
    meeting = _Meeting.remote(len(packs)) if 0 < gpus < 1 else None  # type: ignore[attr-defined]
    keys = [uuid.uuid4().bytes for _ in packs]
    pending = [
        remote.options(num_cpus=pack.first.cpus, num_gpus=pack.first.gpus).remote(pack, precisions, window_s, meeting, stall_s, key)
        for pack, key in zip(packs, keys, strict=True)
    ]
    results: list[Timings] = []
    died: list[int] = []
    for number, (reference, key) in enumerate(zip(pending, keys, strict=True)):
        try:
            results.append(get(reference))
        except PROCESS_DIED as error:
            _check_alive()
            hang = internal_kv._internal_kv_get(key)  # of a process that ended itself
            results.append(Timings([], {"": hang.decode() if hang else error_line(error)}))
            if not hang:
                died.append(number)
    return results, died


def get(reference: Any) -> Any:
    """`ray.get`, during which the whole process would end without a message if Ray dies. Raises ExecutorDied instead."""
    while not ray.wait([reference], timeout=1)[0]:
        _check_alive()
    return ray.get(reference)


def alive_nodes() -> list[dict[str, Any]]:
    """The nodes that are alive, as `ray.nodes` describes them. Raises ExecutorDied if Ray does not answer any more, instead of waiting for it."""
    answer: Future[list[dict[str, Any]]] = Future()

    def ask() -> None:
        try:
            answer.set_result(ray.nodes())
        except BaseException as error:  # noqa: BLE001  raised by `answer.result`
            answer.set_exception(error)

    threading.Thread(target=ask, name="nodes", daemon=True).start()
    while not wait([answer], timeout=1).done:
        _check_alive()
    return [node for node in answer.result() if node["Alive"]]


def _check_alive() -> None:
    if died := ray_private.dead_process():
        raise ExecutorDied(died)


@ray.remote(num_cpus=0)
class _Meeting:
    """Lets `members` processes wait for each other once. A process that has left is not waited for."""

    def __init__(self, members: int):
        self._members, self._arrived = members, 0
        self._changed = asyncio.Condition()

    async def arrive(self) -> None:
        """Return when all members have arrived, or after `MEETING_S`."""
        async with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: self._arrived >= self._members), MEETING_S)

    async def leave(self) -> None:
        async with self._changed:
            self._members -= 1
            self._changed.notify_all()


def _probe(pack: Pack, precisions: list[str] | None, window_s: float, meeting: Any, stall_s: float, key: bytes) -> Timings:
    """`time_pack` in a process of its own. With a `meeting`, its timed steps begin together with those of the other members.

    If it hangs outside Python, stores the message under `key` and ends the process.
    """
    from ddl.sweeps.probe import time_pack  # imports torch, which the driver does without

    arrived = False

    def ready() -> None:
        nonlocal arrived
        if meeting is not None and not arrived:
            arrived = True
            ray.get(meeting.arrive.remote())

    def give_up(message: str) -> None:
        internal_kv._internal_kv_put(key, message.encode())
        end_process()

    timings = time_pack(pack, device_of(pack.first), precisions, window_s, ready, stall_s, give_up)
    if meeting is not None and not arrived:
        ray.get(meeting.leave.remote())
    return timings
