"""Stopping on a signal: the loop finishes its step, saves and ends."""

import signal
import threading
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Notes SIGTERM and SIGINT while it is entered, instead of dying of them.

    A second Ctrl-C has its usual effect, for whoever cannot wait; schedulers repeat SIGTERM.
    Signals that the process ignores stay ignored, as a shell has it for Ctrl-C in background jobs.

    Python hands signals to the main thread alone. Entered in another thread (a web server's, a
    notebook widget's) nothing is noted: neither these signals nor KeyboardInterrupt stop the
    training there, and the end of the process leaves its newest checkpoint.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # None is a handler of another language, which could not be put back.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        if number == signal.SIGINT:
            signal.signal(number, self._before[signal.SIGINT])


def agree(*values: int) -> tuple[int, ...]:
    """Return the largest of each value over all processes, which must all call this."""
    if jax.process_count() == 1:
        return values
    gathered = np.asarray(multihost_utils.process_allgather(np.asarray(values)))
    return tuple(int(value) for value in gathered.max(axis=0))
