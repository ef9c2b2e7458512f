"""Cross entropy over labelled pixels."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from deeplab_mnv2.config import IGNORE_LABEL, LossConfig


def labelled_weight(label: Array, config: LossConfig) -> Array:
    """Return each pixel's weight, shape of `label`: its class's weight, 0 where unlabelled."""
    labelled = label != IGNORE_LABEL
    if not config.class_weights:
        return labelled.astype(jnp.float32)
    weights = jnp.asarray(config.class_weights, jnp.float32)
    return jnp.where(labelled, weights[jnp.where(labelled, label, 0)], 0.0)


def pixel_losses(logits: Array, label: Array) -> Array:
    """Return the cross entropy of each pixel (B, H, W), 0 where unlabelled.

    `logits` (B, H, W, classes) float32, `label` (B, H, W) int32.
    """
    labelled = label != IGNORE_LABEL
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(labelled, label, 0))
    return jnp.where(labelled, losses, 0.0)


def segmentation_loss(
    logits: Array, label: Array, step: Array, config: LossConfig, *, total_weight: Array
) -> Array:
    """Return the weighted sum of pixel losses over `total_weight`, a scalar.

    `total_weight` is the sum of `labelled_weight` over the whole global batch, so that the
    parts of an accumulated or sharded batch add up to the loss of the batch. With
    `config.top_k < 1` only the hardest share of each part's labelled pixels counts, and the
    divisor shrinks by the same share (hard-pixel mining as TensorFlow DeepLab anneals it).
    """
    weight = labelled_weight(label, config)
    losses = pixel_losses(logits, label) * weight
    divisor = jnp.maximum(total_weight, 1e-5)
    if config.top_k == 1:
        return jnp.sum(losses) / divisor
    progress = jnp.minimum(step.astype(jnp.float32) / max(config.top_k_steps, 1), 1.0)
    share = 1 - (1 - config.top_k) * progress
    count = jnp.ceil(share * jnp.sum(weight > 0)).astype(jnp.int32)
    # The count changes with the step and the labels, so rank by sorting, not by top_k.
    ranked = jnp.sort(losses.reshape(-1), descending=True)
    hardest = jax.lax.iota(jnp.int32, ranked.size) < count
    return jnp.sum(ranked, where=hardest) / (divisor * share)
