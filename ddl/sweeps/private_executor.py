"""The executor for this machine: times packs in processes of its own, and trains them on a private Ray cluster, which starts meanwhile."""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

from ddl.gpus import machine_gpus, use_only
from ddl.sweeps.capacity import Capacity, local_capacity
from ddl.sweeps.executors import Executor
from ddl.sweeps.local_probe import probe_on_this_machine
from ddl.sweeps.pack import Pack
from ddl.sweeps.probe_limits import repeat_if_died
from ddl.telemetry.nvml import MIG_NAME
from ddl.timings import Timings
from ddl.trial_report import TrialReport


class PrivateExecutor:
    """Runs packs of trials on this machine. Ray takes seconds to start, so it starts while the plan is made; a plan alone does not need it."""

    def __init__(self, make: Callable[[], Executor], probe_stall_s: float):
        """`make` returns the executor that runs packs on a private cluster. `probe_stall_s` as `stall_s` in `time_pack`."""
        self._make, self._probe_stall_s = make, probe_stall_s
        self._capacity = Capacity(())
        self._trainer: Executor | None = None
        self._thread: threading.Thread | None = None
        self._started, self._ended = threading.Event(), threading.Event()
        self._exception: tuple[Any, ...] = (None, None, None)
        self._start_error: BaseException | None = None
        self._end_error: BaseException | None = None

    def __enter__(self) -> Self:
        gpus = machine_gpus()
        if gpus.usable and (gpus.problems or any(MIG_NAME in gpu.name for gpu in gpus.usable)):
            use_only(gpus.usable)
        self._capacity = local_capacity()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._exception = exception
        self._ended.set()
        if self._thread:
            self._thread.join()
        if self._end_error:
            raise self._end_error from exception[1]

    def get_ready(self) -> None:
        """See `Executor.get_ready`. Imports Ray before it returns: two threads that import can wait for each other forever."""
        if self._thread is None:
            self._trainer = self._make()
            self._thread = threading.Thread(target=self._keep_cluster, name="ray", daemon=True)
            self._thread.start()

    def _keep_cluster(self) -> None:
        """Start the cluster, and stop it at the end of the executor's context: Linux ends its processes with the thread that started them."""
        assert self._trainer is not None
        try:
            self._trainer.__enter__()
        except BaseException as error:  # noqa: BLE001  raised in the driver's thread by `_wait_for_cluster`
            self._start_error = error
            return
        finally:
            self._started.set()
        self._ended.wait()
        try:
            self._trainer.__exit__(*self._exception)
        except BaseException as error:  # noqa: BLE001  raised in the driver's thread by `__exit__`
            self._end_error = error

    def _wait_for_cluster(self) -> Executor:
        """The executor that trains, when its cluster has started. Raises what its start raised."""
        self.get_ready()
        self._started.wait()
        if self._start_error:
            raise self._start_error
        assert self._trainer is not None
        return self._trainer

    def capacity(self) -> Capacity:
        """The cores that this process may use, and the usable GPUs."""
        return self._capacity

    def gpu_problems(self) -> list[str]:
        """See `Executor.gpu_problems`. The capacity has usable GPUs only."""
        return []

    def probe(self, packs: Sequence[Pack], precisions: list[str] | None, window_s: float) -> list[Timings]:
        """See `Executor.probe`. All run at once. A probe whose process dies has no timings, like one that raises."""
        if any(pack.first.task.uses_ray() for pack in packs):
            return self._wait_for_cluster().probe(packs, precisions, window_s)
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = named.split(",") if named else [str(index) for index in range(self._capacity.gpus)]
        time_together = functools.partial(
            probe_on_this_machine, window_s=window_s, stall_s=self._probe_stall_s, gpus=gpus, before_timing=self._let_cluster_start
        )
        return repeat_if_died(packs, precisions, time_together)

    def _let_cluster_start(self) -> None:
        """Wait for a cluster that is starting: its start would slow down what is timed."""
        if self._thread:
            self._wait_for_cluster()

    def run(self, packs: Iterable[Pack], concurrent: int | None) -> Iterator[Sequence[TrialReport]]:
        """See `Executor.run`."""
        return self._wait_for_cluster().run(packs, concurrent)
