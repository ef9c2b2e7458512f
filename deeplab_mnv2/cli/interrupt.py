"""Ctrl-C ends a command with one line and status 130, from its first import on."""

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
    """Interrupt once more where the first fell into a callback that lets no exception out.

    JAX's callback of the garbage collector is one.
    """
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # A real signal: it also wakes a main thread that waits for others.
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def _stop(*_: object) -> None:
    print("\nStopped.", file=sys.stderr, flush=True)
    # No exception: extension modules that are being imported turn it into errors of their own.
    os._exit(STATUS)


# While `python -m deeplab_mnv2.<command>` looks for the command it imports the package, which
# takes seconds, and "-m" stands in the command's place.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)
