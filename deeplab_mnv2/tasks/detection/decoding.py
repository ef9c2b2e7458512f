"""From the network's codes and logits to boxes: TensorFlow's SSD post-processing."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from deeplab_mnv2.config import DetectionEvaluationConfig
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.tasks.detection.anchors import anchors as anchors_of
from deeplab_mnv2.tasks.detection.box_coding import areas, decode, overlaps

# Scores (C, A) of boxes that are left, and each class's best (C,).
_Carry = tuple[Array, Array]


class Detected(NamedTuple):
    """The boxes found in a batch, best first; beyond an image's `counts` all are 0."""

    boxes: Array  # (B, D, 4) float32, normalised, within the image
    scores: Array  # (B, D) float32
    classes: Array  # (B, D) int32, without background
    counts: Array  # (B,) int32


def find(network: SSDLite, images: Array, config: DetectionEvaluationConfig) -> Detected:
    """Return the boxes that a network finds in images (B, H, W, 3) of grey levels 0-255."""
    return detect(
        *network(network.normalize(images)),
        jnp.asarray(anchors_of(*images.shape[1:3])),
        score_threshold=config.score_threshold,
        nms_iou=config.nms_iou,
        max_detections=config.max_detections,
    )


@partial(jax.jit, static_argnames=("score_threshold", "nms_iou", "max_detections"))
def detect(
    codes: Array,
    logits: Array,
    anchors: Array,
    *,
    score_threshold: float = 1e-8,
    nms_iou: float = 0.6,
    max_detections: int = 100,
) -> Detected:
    """Return the best boxes of each image of a batch, none of them twice.

    Boxes are clipped to the image, and those without area dropped. Per class, a box goes where it
    overlaps a better one by more than `nms_iou`; of what is left, over all classes, the best
    `max_detections` above `score_threshold` stay. Exact: no box is left out beforehand.

    Args:
        codes: (B, A, 4) float32.
        logits: (B, A, classes + 1) float32, background first.
        anchors: (A, 4) float32.
    """
    boxes = jnp.clip(decode(codes, jnp.broadcast_to(anchors, codes.shape)), 0, 1)
    scores = jax.nn.sigmoid(logits[..., 1:])
    kept = (scores > score_threshold) & (areas(boxes) > 0)[..., None]
    # Classes first, so that a class's scores lie together; 0 is a box that is gone.
    scores = jnp.where(kept, scores, 0).swapaxes(1, 2)  # (B, C, A)
    best = partial(_best_of_image, nms_iou=nms_iou, number=max_detections)
    return Detected(*jax.vmap(best)(boxes, scores))


def _best_of_image(
    boxes: Array, scores: Array, *, nms_iou: float, number: int
) -> tuple[Array, Array, Array, Array]:
    """Take the best box over all classes and drop what it suppresses, `number` times.

    Each class is suppressed on its own, so the order in which classes take turns does not matter;
    taking the best first, nothing is computed for boxes that would not be among the best.
    `boxes` (A, 4), `scores` (C, A).
    """

    def take(carry: _Carry, _: None) -> tuple[_Carry, tuple[Array, Array, Array]]:
        scores, best = carry
        chosen = jnp.argmax(best)
        row = scores[chosen]
        index = jnp.argmax(row)
        box = lax.dynamic_index_in_dim(boxes, index)  # (1, 4)
        suppressed = (overlaps(box, boxes)[0] > nms_iou).at[index].set(True)
        left = jnp.where(suppressed, 0, row)
        scores = scores.at[chosen].set(left)
        return (scores, best.at[chosen].set(jnp.max(left))), (row[index], chosen, index)

    _, (found, classes, indices) = lax.scan(take, (scores, jnp.max(scores, axis=1)), length=number)
    there = found > 0
    return (
        jnp.where(there[:, None], boxes[indices], 0),
        found,
        jnp.where(there, classes, 0).astype(jnp.int32),
        jnp.sum(there).astype(jnp.int32),
    )
