"""Warnings about a run in progress: slow input, a diverging loss, steps that are not finite."""

from collections import deque
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically

# Share of the time spent waiting for data above which the input is the bottleneck.
_STARVING = 0.2
# Laps (of `train.log_every` steps) that a condition must last, so that a hiccup stays unmentioned.
_LASTING = 3
# A loss this many times its lowest has diverged.
_DIVERGED = 3.0
# Skipped steps in a row after which continuing is pointless.
_MOST_SKIPPED = 10


class Watch:
    """Turns what the loop logs into warnings, each given once."""

    def __init__(self) -> None:
        self._starved = self._risen = 0
        self._recent: deque[float] = deque(maxlen=_LASTING)
        self._lowest = float("inf")
        self._said: set[str] = set()

    def lap(self, values: dict[str, float]) -> list[str]:
        """Return the warnings that a lap's `loss` and `input_wait` give rise to."""
        self._starved = self._starved + 1 if values["input_wait"] > _STARVING else 0
        self._risen = self._risen + 1 if values["loss"] > _DIVERGED * self._lowest else 0
        warnings = []
        if self._starved == _LASTING:
            warnings += self._once(
                "input",
                f"The devices wait {values['input_wait']:.0%} of the time for data; raise "
                "data.threads or data.workers, or store the images smaller.",
            )
        if self._risen == _LASTING:
            warnings += self._once(
                "loss",
                f"The loss has risen to {values['loss']:.3g} from {self._lowest:.3g}; lower "
                "optimizer.learning_rate or set optimizer.clip_norm.",
            )
        # The middle of a few: one lucky batch is no level to fall back to.
        self._recent.append(values["loss"])
        if len(self._recent) == _LASTING:
            self._lowest = min(self._lowest, sorted(self._recent)[_LASTING // 2])
        return warnings

    def scores(self, warnings: list[str]) -> list[str]:
        """Return the warnings of an evaluation that have not been given before."""
        return [new for warning in warnings for new in self._once(warning, warning)]

    def damage(self, damage: np.ndarray) -> list[str]:
        """Return a warning for each unreadable example that was replaced in this batch."""
        return [
            warning
            for text in damage
            if text
            for warning in self._once(str(text), f"{text} It was replaced by another example.")
        ]

    def _once(self, kind: str, warning: str) -> list[str]:
        if kind in self._said:
            return []
        self._said.add(kind)
        return [warning]


class FiniteGuard:
    """Looks after steps whose loss or gradient is not finite; the step itself left them out.

    It looks one step behind, so that the host never waits for the step that the devices are at.
    """

    def __init__(self, workdir: Path, policy: str):
        self._workdir, self._policy = workdir, policy
        self._in_a_row = 0
        self._pending: tuple[int, Any, dict[str, np.ndarray]] | None = None

    def __call__(self, step: int, finite: Any, batch: dict[str, np.ndarray]) -> list[str]:
        """Judge the step before this one, and keep this one for the next call.

        Raises:
            UserError: the step before was not finite and the policy is "stop".
        """
        messages = self.finish()
        self._pending = (step, finite, batch)
        return messages

    def finish(self) -> list[str]:
        """Judge the last step; return what to tell the user.

        Raises:
            UserError: as `__call__`.
        """
        if self._pending is None:
            return []
        (step, finite, batch), self._pending = self._pending, None
        if bool(finite):
            self._in_a_row = 0
            return []
        self._in_a_row += 1
        path = _write_batch(self._workdir, step, batch)
        found = (
            f"The loss or gradient of step {step} is not finite; its batch is in {path} "
            f"(python -m deeplab_mnv2.doctor --batch {path} shows it)"
        )
        if self._policy == "stop" or self._in_a_row == _MOST_SKIPPED:
            raise UserError(
                f"{found}. Lower optimizer.learning_rate, set optimizer.clip_norm, or leave such "
                "steps out with train.nonfinite=skip; checkpoints up to here are sound."
            )
        return [f"{found}; the step was left out."]


def _write_batch(workdir: Path, step: int, batch: dict[str, np.ndarray]) -> Path:
    # Each process has its own part of the batch.
    part = f"_process_{jax.process_index()}" if jax.process_count() > 1 else ""
    path = workdir / f"nonfinite_step_{step}{part}.npz"
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, step=step, **batch)  # pyright: ignore[reportArgumentType]
    return path
