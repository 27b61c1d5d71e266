"""Executors run packs of trials. This module has their protocol; they are in inline_executor.py, ray_tune.py and private_executor.py.

All run `run_pack.run_pack`, so all give the same numbers.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, Self

from ddl.sweeps.capacity import Capacity
from ddl.sweeps.pack import Pack
from ddl.timings import Timings
from ddl.trial_report import TrialReport


class Prober(Protocol):
    """Part of an executor that a plan needs."""

    def capacity(self) -> Capacity:
        """The resources that trials can use."""

    def probe(self, packs: Sequence[Pack], precisions: list[str] | None, window_s: float) -> list[Timings]:
        """`probe.time_pack` of each pack, in parallel if possible, so that they are timed under the load of a sweep.

        Packs that share a GPU start their timed steps at the same moment and run for `window_s` seconds.
        """


class Executor(Prober, Protocol):
    """Runs packs of trials. A context manager: trials run only inside the `with` block. `probe` and `run` may raise ExecutorDied."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: Any) -> None: ...

    def get_ready(self) -> None:
        """Begin to start what `run` needs, and return at once. Not needed by `probe`."""

    def gpu_problems(self) -> list[str]:
        """Reasons why trials cannot run on some GPUs of the capacity. Starts a process on each node with a GPU."""

    def run(self, packs: Iterable[Pack], concurrent: int | None) -> Iterator[Sequence[TrialReport]]:
        """Run all packs, at most `concurrent` at a time (None: as many as fit), and yield their reports.

        Asking for the next reports confirms that the last ones are recorded. The iterable of packs is advanced when there is room for
        a pack, in the thread that consumes the reports, so it may depend on all earlier reports. Closing the iterator stops the
        trials.
        """
