"""Ctrl-C ends a command with one line and status 130, even during its imports."""

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
    """End on a KeyboardInterrupt with one line and the exit status."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
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
        # A real signal, because that also wakes a main thread that waits for other threads.
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def _stop(*_: object) -> None:
    print("\nStopped.", file=sys.stderr, flush=True)
    # No exception: an extension module that is being imported would turn it into another error.
    os._exit(STATUS)


# To find the command, `python -m deeplab_mnv2.<command>` first imports the package, which takes
# seconds; meanwhile argv[0] is "-m".
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)
