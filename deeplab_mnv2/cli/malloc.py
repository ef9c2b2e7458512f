"""How the process keeps its memory between the steps of a run."""

import ctypes
import mmap
import os
import sys

# Parameters of glibc's mallopt(3), advice of Linux's madvise(2).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_LARGE_PAGE = 2**21


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the next allocation, in large pages.

    On a CPU XLA frees its buffers after every call. glibc returns large ones to the kernel, which
    must clear the pages before they are used again: a third of the processor time of a training
    step. Only the main arena keeps large blocks, so there is only one arena. Does nothing if the C
    library is not glibc. Call it before threads start.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    mallopt = getattr(library, "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)  # never
    mallopt(_ARENA_MAX, 1)
    _use_large_pages(library)


def _use_large_pages(library: ctypes.CDLL) -> None:
    """Ask the kernel for pages of 2 MiB where the heap is going to be.

    Nothing but addresses is taken: half as many as there is memory, freed at once, which malloc
    keeps for what comes. Without them a training step takes a tenth longer.
    """
    import resource  # noqa: PLC0415 - Windows has none

    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return  # addresses are counted
    library.malloc.restype = ctypes.c_void_p
    size = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // 2
    start = library.malloc(ctypes.c_size_t(size))
    if start is None:
        return
    first = -(-start // _LARGE_PAGE) * _LARGE_PAGE
    length = (start + size - first) // _LARGE_PAGE * _LARGE_PAGE
    library.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
    library.free(ctypes.c_void_p(start))
