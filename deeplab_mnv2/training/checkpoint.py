"""Saving and restoring a run: Orbax checkpoints beside the `config.json` they belong to.

The position in the data needs no place in a checkpoint: order and augmentation are functions of
(seed, step), so the step is the position, on any number of hosts and workers.
"""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from orbax.checkpoint import v1 as ocp

from deeplab_mnv2.config import Config, model_from_dict, to_dict
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.training.state import TrainState

# Settings that may change when a run goes on: they do not alter what is computed, except
# total_steps, which bends the schedule from there on and is announced.
_MAY_CHANGE = {
    "train.total_steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.fsdp",
    "train.space",
    "data.threads",
    "data.workers",
}


class Checkpoints:
    """The checkpoints of a workdir; keeps the newest two and the best by mIoU."""

    def __init__(self, workdir: Path):
        policies = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            str((workdir / "checkpoints").absolute()),
            # Orbax's policies and its protocol name their argument differently.
            preservation_policy=policies.AnyPreservationPolicy(  # pyright: ignore[reportArgumentType]
                [
                    policies.LatestN(2),
                    policies.BestN(get_metric_fn=_miou, reverse=False, n=1),
                ]
            ),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        # Waits for a save that is still being written.
        self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """Steps with a finished checkpoint, oldest first."""
        return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def save(self, step: int, state: TrainState, scores: dict[str, Any] | None) -> None:
        """Begin to write a checkpoint; the training loop goes on meanwhile.

        A kill at any instant leaves the previous checkpoint: Orbax renames a finished one into
        place.
        """
        # A copy: the next step donates the state, and on CPU Orbax reads its buffers in place.
        state = jax.block_until_ready(jax.tree.map(jnp.copy, state))
        miou = None if scores is None else {"miou": scores["miou"]}
        self._checkpointer.save_async(step, state, metrics=miou)

    def restore(self, abstract_state: TrainState, step: int | None = None) -> TrainState:
        """Return the checkpoint of a step (the newest by default), placed as `abstract_state`.

        Raises:
            UserError: it does not exist, is damaged, or is of another network.
        """
        steps = self.steps
        step = steps[-1] if step is None and steps else step
        folder = self._checkpointer.directory
        if step not in steps:
            raise UserError(f"{folder} holds no checkpoint of step {step}; it holds {steps}.")
        try:
            return self._checkpointer.load(step, abstract_state)
        except Exception as error:
            # Orbax raises whatever its storage layers raise; all of it means the same here.
            raise _unreadable(f"{folder}/{step}", error) from error

    def restore_weights(
        self, params: nnx.State, batch_stats: nnx.State
    ) -> tuple[nnx.State, nnx.State]:
        """Return the newest scored parameters and norm statistics, shaped as those given.

        Raises:
            UserError: there is no checkpoint, or it is damaged.
        """
        folder = self._checkpointer.directory
        if not self.steps:
            raise UserError(f"{folder} holds no checkpoint yet; train for longer first.")
        step = self.steps[-1]
        try:
            # On one device, wherever it was trained: the devices of then may not be there now.
            place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            stored = self._checkpointer.metadata(step).metadata
            saved: Any = self._checkpointer.load(
                step,
                jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
                    stored,
                ),
            )
        except Exception as error:
            raise _unreadable(f"{folder}/{step}", error) from error
        saved_params = saved["params"] if saved["ema"] is None else saved["ema"]
        return _like(params, saved_params), _like(batch_stats, saved["batch_stats"])


def open_workdir(workdir: Path, config: Config) -> list[str]:
    """Make the workdir, or check that it belongs to this run; return what to tell the user.

    Raises:
        UserError: it cannot be written, or holds a run with other settings.
    """
    path = workdir / "config.json"
    text = json.dumps(to_dict(config), indent=2) + "\n"
    messages = []
    if path.exists():
        before, now = _flat(_read(path)), _flat(json.loads(text))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) == now.get(name):
                continue
            if name not in _MAY_CHANGE:
                raise UserError(
                    f"{workdir} holds a run with {name}={before.get(name)!r}, but this one has "
                    f"{now.get(name)!r}; choose another --workdir or the same setting."
                )
            messages.append(f"{name} was {before.get(name)!r} and is {now.get(name)!r} now")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        temporary = workdir / "config.json.tmp"
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"The workdir {workdir} cannot be written ({error.strerror}); choose another "
            "--workdir or mend its permissions."
        ) from error
    return messages


def load_model(workdir: Path) -> DeepLab:
    """Return the newest model of a run in evaluation mode, with averaged weights where kept.

    Raises:
        UserError: there is no run or no checkpoint, or one of its files is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{workdir} holds no run (no config.json); check --workdir.")
    model = DeepLab(model_from_dict(_read(path)["model"]), rngs=nnx.Rngs(0))
    _, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    with Checkpoints(workdir) as checkpoints:
        for state in checkpoints.restore_weights(params, batch_stats):
            nnx.update(model, state)
    model.eval()
    return model


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); choose another --workdir.") from error


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return flat


def _miou(metrics: Any) -> float:
    # Checkpoints between evaluations carry no score and are kept as newest only.
    return metrics["miou"] if metrics else -1.0


def _unreadable(path: str, error: BaseException) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return UserError(
        f"The checkpoint {path} cannot be read ({reason}); delete that folder to go on from the "
        "one before it."
    )


def _like(state: nnx.State, saved: Any) -> nnx.State:
    """Return the saved leaves in the structure of `state`; both flatten in the same order."""
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(saved))


def abstract(state: TrainState, sharding: Any) -> TrainState:
    """Return shapes, types and shardings of a state, which is what restoring needs."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        state,
        sharding,
    )
