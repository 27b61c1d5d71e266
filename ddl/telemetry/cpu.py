"""What this process and its children take of the CPU and of memory, through psutil."""

import contextlib

import psutil

LOOK_EVERY_S = 10.0
"""Between looks for new children: each goes through every process of the machine, some milliseconds."""


class ProcessTree:
    """This process and the children it starts from now on, theirs included. Those it has already are not the trial's.

    (With the inline executor this is the whole command's process, and a child it has is the one that follows it into W&B.
    Actors of Ray's are nobody's children, but where the trial started Ray itself.)
    """

    def __init__(self, cores: int, now: float):
        """`cores`: how many this process was given."""
        self._cores = cores
        self._own = psutil.Process()
        self._others = frozenset(self._own.children())
        self._children: list[psutil.Process] = []
        self._looked = now
        self._before: tuple[float, float] | None = None

    def read(self, now: float, last: bool = False) -> dict[str, float]:
        """Figures by name: utilisation since the reading before, in percent of the cores; resident memory. `last` is thorough."""
        if last or now - self._looked >= LOOK_EVERY_S:
            self._looked, self._children = now, self._find()
        seconds, resident = self._measure()
        found = {"memory_peak_mb": resident / 1e6}
        before, self._before = self._before, (now, seconds)
        if before is not None and now > before[0]:
            found["cpu_utilisation_percent"] = 100 * (seconds - before[1]) / (now - before[0]) / self._cores
        return found

    def _measure(self) -> tuple[float, int]:
        """(seconds on the CPU so far, bytes resident now) of all together."""
        seconds, resident = 0.0, 0
        for process in (self._own, *self._children):
            try:
                times = process.cpu_times()
                # A child that has ended and was waited for is in its parent's `children_...`.
                seconds += times.user + times.system + times.children_user + times.children_system
                resident += process.memory_info().rss
            except psutil.Error:
                continue
        return seconds, resident

    def _find(self) -> list[psutil.Process]:
        found = []
        for child in self._own.children():
            if child not in self._others:
                found.append(child)
                with contextlib.suppress(psutil.Error):  # it has just ended
                    found += child.children(recursive=True)
        return found
