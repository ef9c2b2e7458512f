"""Ctrl-C ends a command with one line and status 130."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STATUS = 130


@contextmanager
def quiet() -> Iterator[None]:
    """Turn a KeyboardInterrupt within into a line and the exit status."""
    hook, sys.unraisablehook = sys.unraisablehook, _again
    try:
        yield
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(STATUS)
    finally:
        sys.unraisablehook = hook


def _again(lost: Any) -> None:
    """Raise Ctrl-C again if a callback swallowed it.

    JAX's hook in the garbage collector is such a callback: no exception can leave it.
    """
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # A real signal: it also wakes a main thread that waits for others.
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)
