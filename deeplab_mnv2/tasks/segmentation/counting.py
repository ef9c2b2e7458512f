"""A network over a data set: predictions on the device, integer counts to the host."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from deeplab_mnv2.config import IGNORE_LABEL, EvaluationConfig
from deeplab_mnv2.evaluation.calibration import LEVELS
from deeplab_mnv2.sharding import batch_sharding, replicated, split_rows
from deeplab_mnv2.tasks.scoring_batches import one_batch_late
from deeplab_mnv2.tasks.segmentation.multi_scale import predict
from deeplab_mnv2.tasks.segmentation.object_sizes import SIZES

Predict = Callable[[nnx.State, nnx.State, dict[str, Array]], tuple[Array, dict[str, Array]]]


@dataclasses.dataclass
class Counts:
    """What scores are made of, for N images in the order of the split.

    Integers, those of single images int32, because they are many and an image has few pixels,
    all others int64: `confusions` (N, C, C), rows label, columns prediction; `bands` (W, C, C), the
    same summed over images within each boundary width; `confidences` (LEVELS + 1, 2), pixels
    by winning probability, wrong and right; `sizes` (N, 3, C, 2), pixels by image, size of
    their object and class, wrong and right; `objects` (3, C), how many there are; `extents`
    (N, 2, 2), height and width of each image and of what it was padded to.
    """

    names: list[str]
    confusions: np.ndarray
    bands: np.ndarray
    confidences: np.ndarray
    sizes: np.ndarray
    objects: np.ndarray
    extents: np.ndarray
    compilations: int


def make_scorer(
    graphdef: nnx.GraphDef,
    config: EvaluationConfig,
    num_classes: int,
    mesh: Mesh,
) -> Predict:
    """Return the jitted (params, batch_stats, batch) -> (prediction, histograms).

    `batch` holds the arrays of `PrepareForScoring`, stacked; `prediction` is (B, H, W) uint8.
    Histograms of labelled pixels, int32: `bands` (B, bands + 1, C, C) by boundary band, label and
    prediction; `sizes` (B, 3, C, 2) and `confidences` (B, LEVELS + 1, 2) as in `Counts`. Nothing
    with a class axis at full size leaves the device.
    """
    return jax.jit(
        partial(_score, graphdef, config, num_classes, mesh),
        in_shardings=(None, None, batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )


def count(
    scorer: Predict,
    params: nnx.State,
    batch_stats: nnx.State,
    batches: Iterable[dict[str, Any]],
    *,
    num_classes: int,
    place: Callable[[np.ndarray], Array],
    seen: Callable[[dict[str, Any], Array], None] | None = None,
) -> Counts:
    """Run the scorer over batches and collect integer counts per image.

    `seen(batch, prediction)` is called for every batch, for progress and pictures.
    """
    rows: dict[int, tuple[str, np.ndarray, np.ndarray, np.ndarray]] = {}
    # Summed at once: with many classes, one histogram an image would fill the memory.
    bands: np.ndarray | int = 0
    confidences = np.zeros((LEVELS + 1, 2), np.int64)
    objects = np.zeros((len(SIZES), num_classes), np.int64)

    def run(batch: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
        arrays = {key: place(batch[key]) for key in ("image", "label", "band", "object_size")}
        return scorer(params, batch_stats, arrays)

    for batch, (prediction, histograms) in one_batch_late(run, batches):
        by_band = np.asarray(histograms["bands"])  # (B, bands + 1, C, C)
        confusions, sizes = by_band.sum(axis=1), np.asarray(histograms["sizes"])
        bands = bands + by_band.sum(axis=0, dtype=np.int64)
        for row, (index, name) in enumerate(zip(batch["index"], batch["name"], strict=True)):
            extent = np.array([batch["size"][row], batch["image"].shape[1:3]])
            # Copies: a row of the batch would keep all of it.
            confusion, size = confusions[row].astype(np.int32), sizes[row].astype(np.int32)
            rows[index] = (name, confusion, size, extent)
        confidences += np.asarray(histograms["confidences"], np.int64).sum(axis=0)
        objects += batch["objects"].sum(axis=0)
        if seen is not None:
            seen(batch, prediction)
    ordered = [rows[index] for index in sorted(rows)]
    return Counts(
        names=[name for name, _, _, _ in ordered],
        confusions=_stack([row for _, row, _, _ in ordered], (num_classes, num_classes)),
        bands=np.cumsum(bands, axis=0)[:-1],
        confidences=confidences,
        sizes=_stack([row for _, _, row, _ in ordered], (len(SIZES), num_classes, 2)),
        objects=objects,
        extents=_stack([row for _, _, _, row in ordered], (2, 2)),
        compilations=scorer._cache_size(),  # type: ignore[attr-defined]
    )


def _score(
    graphdef: nnx.GraphDef,
    config: EvaluationConfig,
    num_classes: int,
    mesh: Mesh,
    params: nnx.State,
    batch_stats: nnx.State,
    batch: dict[str, Array],
) -> tuple[Array, dict[str, Array]]:
    model = nnx.merge(graphdef, params, batch_stats)
    model.eval()
    image = split_rows(batch["image"], mesh)
    prediction, confidence = predict(model, image, config.scales, flip=config.flip)  # (B, H, W)
    return prediction.astype(jnp.uint8), histograms(
        prediction, confidence, batch, config, num_classes
    )


def histograms(
    prediction: Array,
    confidence: Array,
    batch: dict[str, Array],
    config: EvaluationConfig,
    num_classes: int,
) -> dict[str, Array]:
    """Return the histograms of `make_scorer` for predictions and their probabilities (B, H, W)."""
    label = batch["label"].astype(jnp.int32)
    band, size = batch["band"].astype(jnp.int32), batch["object_size"].astype(jnp.int32)
    level = jnp.round(confidence * LEVELS).astype(jnp.int32)
    right = (prediction == label).astype(jnp.int32)
    bands = (len(config.boundary_widths) + 1, num_classes, num_classes)
    return {
        "bands": _histogram(label, (band, label, prediction), bands),
        "sizes": _histogram(label, (size, label, right), (len(SIZES), num_classes, 2)),
        "confidences": _histogram(label, (level, right), (LEVELS + 1, 2)),
    }


def _histogram(label: Array, indices: tuple[Array, ...], shape: tuple[int, ...]) -> Array:
    """Count labelled pixels by their indices, each (B, H, W): (B, *shape) int32."""
    cell, cells = jnp.zeros_like(label), math.prod(shape)
    for index, length in zip(indices, shape, strict=True):
        cell = cell * length + index
    # Unlabelled pixels fall into one cell more, which is dropped.
    cell = jnp.where(label == IGNORE_LABEL, cells, cell).reshape(label.shape[0], -1)
    counts = jax.vmap(partial(jnp.bincount, length=cells + 1))(cell)
    return counts[:, :cells].reshape(-1, *shape)


def _stack(rows: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(rows, dtype=np.int32) if rows else np.zeros((0, *shape), np.int32)
