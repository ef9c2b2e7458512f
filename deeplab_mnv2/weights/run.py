"""The network of a training run, read from its folder while it may be training on."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from orbax.checkpoint import v1 as ocp

from deeplab_mnv2.config import model_from_dict
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import read_json, reason
from deeplab_mnv2.weights.model_weights import Weights, build, weights_digest
from deeplab_mnv2.weights.naming import CONFIGS, SCALING, SCORES


def find_run(path: str) -> tuple[Path, str] | None:
    """Return a run's folder and which checkpoint of it `path` names; None where it names no run.

    RUN is its newest checkpoint; RUN@best, RUN@4000 and RUN@newest say which.
    """
    folder = Path(path)
    if folder.exists():
        is_run = (folder / "checkpoints").is_dir() and (folder / "config.json").exists()
        return (folder, "newest") if is_run else None
    name, _, which = path.rpartition("@")
    return (Path(name), which) if name and Path(name).is_dir() else None


def read_run(folder: Path, which: str) -> Weights:
    """Return the weights of a run's checkpoint, averaged ones where the run keeps them.

    `which` is "newest", "best" (by the score, of the checkpoints kept) or a step. Nothing in the
    folder changes. The scores are those of `eval.json` where they are of these very weights.

    Raises:
        UserError: there is no run or no such checkpoint, or one of its files is damaged.
    """
    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"{folder} holds no run (no config.json); check the path.")
    settings = read_json(path)
    stored = settings.get("model")
    if not isinstance(stored, dict):
        raise UserError(f"{path} holds no model settings; choose another run.")
    # A run of before there were several kinds of network segments.
    kinds = {config.__name__: config for config in CONFIGS.values()}
    config = model_from_dict(stored, kinds.get(str(stored.get("type")), CONFIGS["segmentation"]))
    # A run of before names were stored has none.
    class_names = settings.get("class_names", [])
    if not isinstance(class_names, list) or not all(isinstance(n, str) for n in class_names):
        raise UserError(f"{path} is damaged: its class_names are no list of names.")
    step, tensors = _restore(folder.absolute() / "checkpoints", which)
    provenance = {"source": str(folder), "checkpoint": str(step)}
    weights = Weights(tensors, config, provenance, class_names=tuple(class_names))
    if weights.kind == "classification" and isinstance(settings.get("evaluation"), dict):
        weights.scaling = {name: settings["evaluation"].get(name) for name in SCALING}
    weights.scores = scores_in(folder / "eval.json", weights)
    return weights


def score_of(metrics: Any) -> float:
    """Return the score that a checkpoint was saved with, -1 for one between evaluations."""
    return next(iter(metrics.values())) if metrics else -1.0


def find_damage(folder: Path) -> UserError | None:
    """Return what is wrong with a checkpoint's own small files, without which Orbax opens none."""
    for name in ("_CHECKPOINT_METADATA", "metrics/metrics"):
        try:
            json.loads((folder / name).read_bytes())
        except FileNotFoundError:
            # Checkpoints between evaluations have no metrics.
            continue
        except (OSError, ValueError, RecursionError) as error:
            return unreadable(folder, error)
    return None


def unreadable(folder: Path, error: BaseException) -> UserError:
    """Return what to tell the user of a checkpoint that cannot be read."""
    return UserError(f"The checkpoint {folder} cannot be read ({reason(error)}).")


def saved_checkpoints(folder: Path) -> list[Path]:
    """Return the folders of finished checkpoints, oldest first."""
    # Others belong to saves that are not finished.
    found = [path for path in folder.glob("[0-9]*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name))


def _restore(folder: Path, which: str) -> tuple[int, dict[str, np.ndarray]]:
    """Return the step of a checkpoint and its tensors by our names."""
    while True:
        there = saved_checkpoints(folder)
        if not there:
            raise UserError(f"{folder} holds no checkpoint yet; train for longer first.")
        for path in there:
            if (damage := find_damage(path)) is not None and path.exists():
                raise UserError(f"{damage} The run's own command resumes without it.")
        step = there[-1].name
        try:
            with ocp.training.Checkpointer(str(folder)) as checkpointer:
                step = _find(checkpointer.checkpoints, which, folder)
                return step, _load(checkpointer, step)
        except UserError:
            raise
        except Exception as error:
            # Orbax raises whatever its storage layers raise. Where the run has saved meanwhile,
            # it has dropped what was about to be read.
            if there == saved_checkpoints(folder):
                raise unreadable(folder / str(step), error) from error


def _find(checkpoints: Any, which: str, folder: Path) -> int:
    """Return the step of the checkpoint that is meant.

    Raises:
        UserError: there is none.
    """
    steps = sorted(found.step for found in checkpoints)
    if which == "newest":
        return steps[-1]
    if which == "best":
        best = max(checkpoints, key=lambda found: score_of(found.metrics))
        if not best.metrics:
            raise UserError(f"No checkpoint in {folder} has a score yet; use the newest.")
        return best.step
    if which not in map(str, steps):
        raise UserError(
            f"{folder} holds no checkpoint of step {which}; give newest, best or one of "
            f"{', '.join(map(str, steps))}."
        )
    return int(which)


def _load(checkpointer: Any, step: int) -> dict[str, np.ndarray]:
    """Return the scored parameters and norm statistics of a checkpoint by our names."""
    stored = checkpointer.metadata(step).metadata
    params = "params" if stored["ema"] is None else "ema"
    # On one device, wherever it was trained: the devices of then may not be there now.
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def wanted(path: Any, leaf: Any) -> Any:
        if path[0].key not in (params, "batch_stats"):
            return ocp.PLACEHOLDER
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    saved = checkpointer.load(step, jax.tree_util.tree_map_with_path(wanted, stored))
    tensors = {}
    for part in (params, "batch_stats"):
        for path, leaf in jax.tree_util.tree_leaves_with_path(saved[part]):
            names = [str(entry.key) for entry in path]
            # Flax keeps the array of a variable as its `value`.
            tensors[".".join(names[:-1] if names[-1] == "value" else names)] = np.asarray(leaf)
    return tensors


def scores_in(path: Path, weights: Weights) -> dict[str, Any] | None:
    """Return what the `eval.json` at a path says of these weights, None where it is of others.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None
    found = read_json(path)
    _, params, batch_stats = nnx.split(build(weights), nnx.Param, nnx.BatchStat)
    try:
        if found["protocol"]["weights"] != weights_digest(params, batch_stats):
            return None
        score = next(name for name in SCORES[weights.kind] if name in found)
        return {name: found[name] for name in (score, "ci95", "images", "protocol")}
    except (KeyError, TypeError, StopIteration) as error:
        raise UserError(f"{path} is damaged ({error}); evaluate the run again.") from error
