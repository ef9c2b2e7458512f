"""Saving and restoring a run: Orbax checkpoints beside the `config.json` they belong to.

The position in the data needs no place in a checkpoint: order and augmentation are functions of
(seed, step), so the step is the position, on any number of hosts and workers.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import reason
from deeplab_mnv2.training.state import TrainState
from deeplab_mnv2.weights.run import find_damage, saved_checkpoints, score_of, unreadable


@jax.jit
def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


class Checkpoints:
    """The checkpoints of a workdir; keeps the newest two and the best by its score.

    `score` is the key of the scores that are saved with them.

    Damaged checkpoints are moved aside, and what a killed save left behind is removed: for whoever
    only looks at a run there is `weights.read`.

    Raises:
        UserError: there are checkpoints, but all of them are damaged.
    """

    def __init__(self, workdir: Path, score: str = ""):
        self._workdir = workdir
        self._score = score
        self._folder = workdir.absolute() / "checkpoints"
        self._saving: Any = None
        self._saved_at = time.monotonic()
        self._damage: list[str] = []
        for folder in saved_checkpoints(self._folder):
            if (damage := find_damage(folder)) is not None and folder.exists():
                self._damage.append(self._set_aside(folder.name, damage))
        self._open()
        if self._damage and not self.steps:
            raise UserError(
                f"{' '.join(self._damage)} None is left: choose another --workdir to start again."
            )

    def _open(self) -> None:
        policies = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            str(self._folder),
            # Orbax's policies and its protocol name their argument differently.
            preservation_policy=policies.AnyPreservationPolicy(  # pyright: ignore[reportArgumentType]
                [
                    policies.LatestN(2),
                    # Those without a score are no candidates: by default all of them are kept.
                    policies.BestN(
                        get_metric_fn=score_of,
                        reverse=False,
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        # Waits for a save that is still being written; what failed first is what is reported.
        try:
            self.wait()
        except UserError:
            if failure is None:
                raise
        finally:
            self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """Steps with a finished checkpoint, oldest first."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(self, step: int, state: TrainState, scores: dict[str, Any] | None) -> None:
        """Begin to write a checkpoint; the training loop continues meanwhile.

        A kill at any instant leaves the previous checkpoint: Orbax renames a finished one into
        place. One of the same step gives way to it.
        """
        self.wait()
        self._require_space(step, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
        # A copy: the next step donates the state, and on CPU Orbax reads its buffers in place.
        state = jax.block_until_ready(_copy(state))
        # Where nothing is labelled there is no score.
        value = None if scores is None else scores[self._score]
        metrics = None if value is None else {self._score: value}
        with self._writing(step):
            response = self._checkpointer.save_async(
                step, state, metrics=metrics, overwrite=step in self.steps
            )
            self._saving = step, response
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is whole on the disk.

        Raises:
            UserError: it cannot be written.
        """
        if self._saving is not None:
            (step, response), self._saving = self._saving, None
            with self._writing(step):
                response.result()

    def has_score(self, step: int) -> bool:
        """Return whether the checkpoint of a step was saved with its scores."""
        return any(found.step == step and found.metrics for found in self._checkpointer.checkpoints)

    @property
    def seconds_since_save(self) -> float:
        """Seconds since the last save began, or since the start."""
        return time.monotonic() - self._saved_at

    def _require_space(self, step: int, size: int) -> None:
        """Refuse what will not fit before a part of it is written.

        Raises:
            UserError: the disk is full.
        """
        free = shutil.disk_usage(self._folder).free
        # Orbax compresses a little and adds a little.
        if free < 1.1 * size:
            raise UserError(
                f"The checkpoint of step {step} takes {size / 1e6:.0f} MB, but {self._folder} has "
                f"{free / 1e6:.0f} MB left; free space there, and the same command resumes from "
                "the checkpoint before it."
            )

    @contextlib.contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Orbax raises whatever its storage layers raise.
            raise UserError(
                f"The checkpoint of step {step} cannot be written to "
                f"{self._folder} ({reason(error)}); free space there, and the "
                "same command resumes from the checkpoint before it."
            ) from error

    def restore_newest(self, abstract_state: TrainState) -> tuple[TrainState, list[str]]:
        """Return the newest checkpoint that can be read, and what to tell the user.

        Damaged ones are moved out of the way, into the workdir, so that nothing is lost.

        Raises:
            UserError: none can be read.
        """
        while True:
            try:
                return self._restore(abstract_state, self.steps[-1]), self._damage
            except UserError as error:
                if len(self.steps) == 1:
                    raise
                step = str(self.steps[-1])
                self._checkpointer.close()
                self._damage.append(self._set_aside(step, error))
                self._open()

    def _set_aside(self, step: str, error: UserError) -> str:
        """Move a damaged checkpoint out of the way; return what to tell the user."""
        multihost_utils.sync_global_devices(f"checkpoint {step} is damaged")
        aside = self._workdir / f"damaged_checkpoint_{step}"
        if jax.process_index() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            (self._folder / step).replace(aside)
        multihost_utils.sync_global_devices(f"checkpoint {step} is set aside")
        return f"{error} It is now in {aside}; one before it is used."

    def _restore(self, abstract_state: TrainState, step: int) -> TrainState:
        try:
            return self._checkpointer.load(step, abstract_state)
        except Exception as error:
            # Orbax raises whatever its storage layers raise; all of it means the same here.
            raise unreadable(self._folder / str(step), error) from error


def abstract(state: TrainState, sharding: Any) -> TrainState:
    """Return shapes, types and shardings of a state, which is what restoring needs."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        state,
        sharding,
    )
