"""Losses of detection, each as a sum and what to divide it by."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from deeplab_mnv2.config import FocalBox, MultiBox
from deeplab_mnv2.tasks.detection.matching import Targets


def loss_sums(
    loss: MultiBox | FocalBox, codes: Array, logits: Array, targets: Targets
) -> tuple[Array, Array]:
    """Return the loss of a batch as a sum and what to divide it by, scalars.

    `codes` (B, A, 4) and `logits` (B, A, classes + 1) are the network's, float32. The divisor is
    the number of matched anchors.
    """
    match loss:
        case MultiBox():
            classes = _cross_entropy(logits, targets.classes + 1)
            counted = targets.matched | hard_negatives(loss, classes, targets)
        case FocalBox():
            classes = _focal(loss, logits[..., 1:], targets.classes)
            counted = ~targets.ignored
    boxes = jnp.sum(_smooth_l1(codes - targets.codes), axis=-1)
    total = jnp.sum(classes, where=counted)
    total += loss.box_weight * jnp.sum(boxes, where=targets.matched)
    return total, jnp.sum(targets.matched).astype(jnp.float32)


def hard_negatives(loss: MultiBox, losses: Array, targets: Targets) -> Array:
    """Return which anchors (B, A) are an image's hardest negatives, by class losses (B, A).

    Of an image with fewer than are asked for, all; of equals, the first.
    """
    negative = ~targets.matched & ~targets.ignored
    positives = jnp.sum(targets.matched, axis=1, keepdims=True)
    count = jnp.maximum(jnp.floor(loss.negatives * positives), loss.min_negatives)  # (B, 1)
    hardness = jnp.where(negative, lax.stop_gradient(losses), -jnp.inf)
    # The rank of each anchor: the count differs from image to image, which `top_k` cannot do.
    order = jnp.argsort(hardness, axis=1, descending=True)
    rank = jnp.argsort(order, axis=1)
    return negative & (rank < count)


def _cross_entropy(logits: Array, slots: Array) -> Array:
    """Return sigmoid cross entropy (B, A), summed over all slots, background's included."""
    target = jax.nn.one_hot(slots, logits.shape[-1], dtype=logits.dtype)
    return jnp.sum(_binary(logits, target), axis=-1)


def _focal(loss: FocalBox, logits: Array, classes: Array) -> Array:
    """Return the focal loss (B, A), summed over the classes; -1 is none of them."""
    target = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    probability = jax.nn.sigmoid(logits)
    # Never 0, where the gradient of a power below 1 is infinite.
    wrong = jnp.maximum(jnp.where(target > 0, 1 - probability, probability), 1e-7)
    alpha = jnp.where(target > 0, loss.alpha, 1 - loss.alpha)
    return jnp.sum(alpha * wrong**loss.gamma * _binary(logits, target), axis=-1)


def _binary(logits: Array, target: Array) -> Array:
    """Return sigmoid cross entropy of each logit, without overflow."""
    return jax.nn.softplus(logits) - logits * target


def _smooth_l1(difference: Array) -> Array:
    """Return half the square up to 1, and the distance less a half beyond (arXiv:1504.08083)."""
    distance = jnp.abs(difference)
    return jnp.where(distance < 1, distance**2 / 2, distance - 0.5)
