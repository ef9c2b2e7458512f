"""How the process keeps its memory between the steps of a run."""

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the next allocation.

    On a CPU XLA frees its buffers after every call. glibc returns large ones to the kernel, which
    must clear the pages before they are used again: a third of the processor time of a training
    step. Only the main arena keeps large blocks, so there is only one arena. Does nothing if the C
    library is not glibc. Call it before threads start.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)  # never
    mallopt(_ARENA_MAX, 1)
