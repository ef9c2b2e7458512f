"""Stopping on a signal: the loop finishes its step, saves and ends."""

import signal
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
    """Notes SIGTERM and SIGINT while it is entered, instead of dying of them.

    A second Ctrl-C has its usual effect, for whoever cannot wait; schedulers repeat SIGTERM.
    """

    def __init__(self) -> None:
        self.signal = 0

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
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
