"""Which anchor stands for which object (TensorFlow's `argmax_matcher`, SSD's Section 2.2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from deeplab_mnv2.tasks.detection.box_coding import areas, encode, intersections, overlaps

# Overlap at which an anchor stands for an object, or is within a region that is ignored.
MATCHED = 0.5


class Targets(NamedTuple):
    """What each anchor of a batch ought to predict."""

    codes: Array  # (B, A, 4) float32, 0 where not matched
    classes: Array  # (B, A) int32, -1 where not matched
    matched: Array  # (B, A) bool
    ignored: Array  # (B, A) bool, never where matched


def targets(boxes: Array, label: Array, ignore: Array, valid: Array, anchors: Array) -> Targets:
    """Return the targets of a batch whose objects are padded to one number N.

    An anchor stands for the object that it overlaps most, if by `MATCHED` or more. Each object
    claims its best anchor besides, whatever the overlap; of two that claim one, the first has it.
    An anchor that stands for none is ignored where half of it is in one box to be ignored.

    Args:
        boxes: (B, N, 4) float32, normalised.
        label: (B, N) int32, classes without background.
        ignore: (B, N) bool, true for crowds and objects too difficult to count.
        valid: (B, N) bool, false for padding.
        anchors: (A, 4) float32.
    """
    return jax.vmap(_of_image, in_axes=(0, 0, 0, 0, None))(boxes, label, ignore, valid, anchors)


def _of_image(boxes: Array, label: Array, ignore: Array, valid: Array, anchors: Array) -> Targets:
    wanted = valid & ~ignore
    iou = jnp.where(wanted[:, None], overlaps(boxes, anchors), 0)  # (N, A)
    best = jnp.argmax(iou, axis=0)
    by_overlap = jnp.max(iou, axis=0) >= MATCHED
    # A box without area overlaps nothing, so it claims nothing.
    claims = jax.nn.one_hot(jnp.argmax(iou, axis=1), anchors.shape[0], dtype=bool)
    claims &= (jnp.max(iou, axis=1) > 0)[:, None]
    claimed = jnp.any(claims, axis=0)
    owner = jnp.where(claimed, jnp.argmax(claims, axis=0), best)  # (A,)
    matched = claimed | by_overlap
    share = intersections(boxes, anchors) / jnp.maximum(areas(anchors), 1e-8)[None]
    covered = jnp.any((share >= MATCHED) & (valid & ignore)[:, None], axis=0)
    codes = jnp.where(matched[:, None], encode(boxes[owner], anchors), 0)
    found = Targets(codes, jnp.where(matched, label[owner], -1), matched, covered & ~matched)
    return lax.stop_gradient(found)
