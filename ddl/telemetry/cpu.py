"""CPU utilisation and resident memory of this process and its children, read through psutil."""

import contextlib

import psutil

FIND_CHILDREN_EVERY_S = 10.0
"""Seconds between searches for new children. A search lists every process of the machine, which takes some milliseconds."""


class ProcessTree:
    """This process and all descendants that it starts from now on. Earlier children do not belong to the trial.

    With the inline executor this process is the command's, and an earlier child is the follower that publishes to W&B. Ray's
    actors are children only if the trial itself started Ray.
    """

    def __init__(self, cores: int, now: float):
        """`cores` is the number of cores this process was given, `now` the time in seconds."""
        self._cores = cores
        self._process = psutil.Process()
        self._earlier_children = frozenset(self._process.children())
        self._children: list[psutil.Process] = []
        self._searched_at = now
        self._previous: tuple[float, float] | None = None

    def read(self, now: float, last: bool = False) -> dict[str, float]:
        """Figures by name: utilisation since the previous reading in percent of the cores, and resident memory in MB.

        `last` searches for new children first.
        """
        if last or now - self._searched_at >= FIND_CHILDREN_EVERY_S:
            self._searched_at, self._children = now, self._find_children()
        seconds, resident = self._measure()
        figures = {"memory_peak_mb": resident / 1e6}
        previous, self._previous = self._previous, (now, seconds)
        if previous is not None and now > previous[0]:
            figures["cpu_utilisation_percent"] = 100 * (seconds - previous[1]) / (now - previous[0]) / self._cores
        return figures

    def _measure(self) -> tuple[float, int]:
        """Sums over all processes: (CPU seconds so far, resident bytes)."""
        seconds, resident = 0.0, 0
        for process in (self._process, *self._children):
            try:
                times = process.cpu_times()
                # A child that has ended and was waited for is in its parent's `children_*`.
                seconds += times.user + times.system + times.children_user + times.children_system
                resident += process.memory_info().rss
            except psutil.Error:
                continue
        return seconds, resident

    def _find_children(self) -> list[psutil.Process]:
        children = []
        for child in self._process.children():
            if child not in self._earlier_children:
                children.append(child)
                with contextlib.suppress(psutil.Error):  # the child has just ended
                    children += child.children(recursive=True)
        return children
