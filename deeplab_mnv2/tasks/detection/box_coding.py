"""Boxes relative to anchors (Faster R-CNN, arXiv:1506.01497, Section 3.1.2), and overlaps.

Boxes and anchors are (..., 4) float32, normalised (ymin, xmin, ymax, xmax).
"""

import jax.numpy as jnp
from jax import Array

# Codes are multiplied by these: ty, tx, th, tw of TensorFlow's box coder.
CODE_SCALES = (10.0, 10.0, 5.0, 5.0)
# Sizes of nothing have no logarithm.
_EPSILON = 1e-8


def encode(boxes: Array, anchors: Array) -> Array:
    """Return the codes (..., 4) of boxes relative to as many anchors: ty, tx, th, tw."""
    centre, size = _centre_and_size(boxes)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    size, anchor_size = size + _EPSILON, anchor_size + _EPSILON
    shift = (centre - anchor_centre) / anchor_size
    codes = jnp.concatenate([shift, jnp.log(size / anchor_size)], axis=-1)
    return codes * _scales(codes.ndim)


def decode(codes: Array, anchors: Array) -> Array:
    """Return the boxes (..., 4) that codes stand for, the inverse of `encode`; not clipped."""
    codes = codes / _scales(codes.ndim)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    centre = codes[..., :2] * anchor_size + anchor_centre
    half = jnp.exp(codes[..., 2:]) * anchor_size / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def intersections(boxes: Array, others: Array) -> Array:
    """Return the common area of each box (N, 4) with each other one (M, 4), (N, M)."""
    low = jnp.maximum(boxes[:, None, :2], others[None, :, :2])
    high = jnp.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return jnp.prod(jnp.maximum(high - low, 0), axis=-1)


def areas(boxes: Array) -> Array:
    """Return the area of each box (..., 4), 0 for one turned inside out."""
    return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def overlaps(boxes: Array, others: Array) -> Array:
    """Return the intersection over union of each box (N, 4) with each other one (M, 4), (N, M).

    Two boxes without area have 0.
    """
    common = intersections(boxes, others)
    union = areas(boxes)[:, None] + areas(others)[None, :] - common
    return jnp.where(common > 0, common / jnp.where(common > 0, union, 1), 0)


def _centre_and_size(boxes: Array) -> tuple[Array, Array]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def _scales(ndim: int) -> Array:
    return jnp.asarray(CODE_SCALES, jnp.float32).reshape((1,) * (ndim - 1) + (4,))
