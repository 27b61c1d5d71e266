"""The C library's allocator."""

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of `mallopt`, in glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Have this process keep freed memory for its next allocations.

    By default glibc returns large blocks to the system. A training step on a CPU allocates its activations again, and spent a fifth of its
    time on the page faults. Does nothing if the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(MMAP_THRESHOLD, 2**30)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(TOP_PAD, 2**26)
