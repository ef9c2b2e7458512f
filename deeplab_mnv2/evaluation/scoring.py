"""A network over a data set: predictions on the device, confusion matrices to the host."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import NamedSharding

from deeplab_mnv2.config import IGNORE_LABEL, EvaluationConfig
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.layers import resize

Predict = Callable[[nnx.State, nnx.State, dict[str, Array]], tuple[Array, Array]]


@dataclasses.dataclass
class Counts:
    """What scores are made of, for N images in the order of the split.

    `confusions` (N, C, C) int64, rows label, columns prediction, and `bands` (W, C, C), the
    same summed over images within each boundary width.
    """

    names: list[str]
    confusions: np.ndarray
    bands: np.ndarray
    compilations: int


def make_scorer(
    graphdef: nnx.GraphDef,
    config: EvaluationConfig,
    num_classes: int,
    batch_sharding: NamedSharding | None = None,
) -> Predict:
    """Return the jitted (params, batch_stats, batch) -> (prediction, histogram).

    `batch` as `evaluation_batches` yields it; `prediction` (B, S, S) uint8; `histogram`
    (B, bands + 1, C, C) int32 counts pixels by boundary band, label and prediction. Nothing
    with a class axis at full size leaves the device.
    """
    function = partial(_score, graphdef, config, num_classes)
    if batch_sharding is None:
        return jax.jit(function)
    replicated = NamedSharding(batch_sharding.mesh, jax.P())
    return jax.jit(
        function,
        in_shardings=(None, None, batch_sharding),
        out_shardings=(batch_sharding, replicated),
    )


def count(
    scorer: Predict,
    params: nnx.State,
    batch_stats: nnx.State,
    batches: Iterable[dict[str, Any]],
    *,
    num_classes: int,
    place: Callable[[np.ndarray], Array] = jnp.asarray,
    seen: Callable[[dict[str, Any], Array], None] | None = None,
) -> Counts:
    """Run the scorer over batches and collect integer counts per image.

    `seen(batch, prediction)` is called for every batch, for progress and pictures.
    """
    rows: dict[int, tuple[str, np.ndarray]] = {}
    for batch, prediction, histogram in _ahead(scorer, params, batch_stats, batches, place):
        counts = np.asarray(histogram, np.int64)
        for row, (index, name) in enumerate(zip(batch["index"], batch["name"], strict=True)):
            rows[index] = (name, counts[row])
        if seen is not None:
            seen(batch, prediction)
    order = sorted(rows)
    shape = (0, 1, num_classes, num_classes)
    histograms = np.stack([rows[i][1] for i in order]) if order else np.zeros(shape, np.int64)
    return Counts(
        names=[rows[i][0] for i in order],
        confusions=histograms.sum(axis=1),
        bands=histograms.sum(axis=0).cumsum(axis=0)[:-1],
        compilations=scorer._cache_size(),  # type: ignore[attr-defined]
    )


def class_probabilities(
    model: DeepLab, image: Array, scales: tuple[float, ...], *, flip: bool
) -> Array:
    """Return (B, H, W, C) averaged over scales and mirror images, each resized to the input.

    `image` (B, H, W, 3) in grey levels. With one scale and no flip these are the logits, whose
    order is the same.
    """
    if scales == (1.0,) and not flip:
        return model(model.normalize(image))
    total = jnp.zeros((*image.shape[:3], model.config.num_classes), jnp.float32)
    size = image.shape[1:3]
    align = model.config.align_corners
    normalised = model.normalize(image)
    for scale in scales:
        # TensorFlow DeepLab's scale_dimension: sides stay a multiple of the stride plus one.
        scaled_size = tuple(round((side - 1) * scale) + 1 for side in size)
        scaled = resize(normalised, scaled_size, align_corners=align)
        for mirrored in (False, True) if flip else (False,):
            view = scaled[:, :, ::-1] if mirrored else scaled
            probabilities = jax.nn.softmax(model(view))
            if mirrored:
                probabilities = probabilities[:, :, ::-1]
            total += resize(probabilities, size, align_corners=align)
    return total / (len(scales) * (2 if flip else 1))


def weights_digest(params: nnx.State, batch_stats: nnx.State) -> str:
    """Return 16 hex digits over every tensor, in the order of their names."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((params, batch_stats)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def _score(
    graphdef: nnx.GraphDef,
    config: EvaluationConfig,
    num_classes: int,
    params: nnx.State,
    batch_stats: nnx.State,
    batch: dict[str, Array],
) -> tuple[Array, Array]:
    model = nnx.merge(graphdef, params, batch_stats)
    model.eval()
    image, label = batch["image"], batch["label"].astype(jnp.int32)
    band = batch["band"].astype(jnp.int32)
    probabilities = class_probabilities(model, image, config.scales, flip=config.flip)
    prediction = jnp.argmax(probabilities, axis=-1).astype(jnp.int32)  # (B, S, S)
    bands = len(config.boundary_widths) + 1
    cell = (band * num_classes + label) * num_classes + prediction
    cells = bands * num_classes * num_classes
    # Unlabelled pixels fall into one cell more, which is dropped.
    cell = jnp.where(label == IGNORE_LABEL, cells, cell)
    histogram = jax.vmap(partial(jnp.bincount, length=cells + 1))(cell.reshape(cell.shape[0], -1))
    histogram = histogram[:, :cells].reshape(-1, bands, num_classes, num_classes)
    return prediction.astype(jnp.uint8), histogram


def _ahead(
    scorer: Predict,
    params: nnx.State,
    batch_stats: nnx.State,
    batches: Iterable[dict[str, Any]],
    place: Callable[[np.ndarray], Array],
) -> Iterator[tuple[dict[str, Any], Array, Array]]:
    """Yield results one batch late, so that the device computes while the host reads."""
    previous = None
    for batch in batches:
        arrays = {key: place(batch[key]) for key in ("image", "label", "band")}
        current = (batch, *scorer(params, batch_stats, arrays))
        if previous is not None:
            yield previous
        previous = current
    if previous is not None:
        yield previous
