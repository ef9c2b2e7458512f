"""How the process keeps its memory between the steps of a run."""

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next allocation.

    XLA frees its buffers after every call on a CPU, and glibc hands large ones back to the
    kernel, which clears their pages anew when they are touched again: a third of the processor
    time of a training step. Large blocks are kept only in the main arena, hence the one arena.
    Does nothing where the C library is not glibc. Call it before threads start.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)  # never
    mallopt(_ARENA_MAX, 1)
