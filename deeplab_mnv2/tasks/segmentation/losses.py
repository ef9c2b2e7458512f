"""Losses over labelled pixels, each as a sum and what to divide it by."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from deeplab_mnv2.config import (
    IGNORE_LABEL,
    CrossEntropy,
    Dice,
    Focal,
    Jaccard,
    LovaszSoftmax,
    OwnLoss,
    Sum,
)
from deeplab_mnv2.models.layers import resize
from deeplab_mnv2.tasks.segmentation.chunked_softmax import Softmax, chunked_softmax


def loss_sums(
    loss: Any, logits: Array, label: Array, step: Array, *, align_corners: bool
) -> tuple[Array, Array]:
    """Return the loss of a batch as a sum and what to divide it by, scalars.

    `logits` (B, h, w, classes) float32 are resized to `label` (B, H, W) int32. `loss` is one of
    `config.Loss`; any other object is asked for its `sums(logits, label, step)` at full size.
    The divisor is the number of labelled pixels, weighted by their class, where the loss is a
    mean over pixels, and 1 where it is a mean over classes; 0 without any label.
    """
    # Computed when a loss asks for it, and once for all terms of a sum.
    softmax = functools.cache(lambda: chunked_softmax(logits, label, align_corners))
    full = functools.cache(lambda: resize(logits, label.shape[1:3], align_corners=align_corners))

    def sums_of(loss: Any) -> tuple[Array, Array]:
        match loss:
            case CrossEntropy(label_smoothing=0):
                return _hardest(loss, softmax().cross_entropy, label, step)
            case CrossEntropy():
                return _hardest(loss, _smoothed(full(), label, loss.label_smoothing), label, step)
            case Focal():
                own = _own_log_probability(full(), label)
                # Never 0, where the gradient of a power below 1 is infinite.
                wrong = jnp.maximum(-jnp.expm1(own), 1e-7)
                losses = -own * wrong**loss.gamma
                return _labelled_mean(losses, label)
            case Dice():
                overlap, sizes, present = _overlap(softmax(), label)
                return _mean_over_classes(1 - 2 * overlap / jnp.maximum(sizes, 1e-5), present)
            case Jaccard():
                overlap, sizes, present = _overlap(softmax(), label)
                union = jnp.maximum(sizes - overlap, 1e-5)
                return _mean_over_classes(1 - overlap / union, present)
            case LovaszSoftmax():
                return _lovasz(full(), label)
        own_loss: OwnLoss = loss
        return own_loss.sums(full(), label, step)

    if not isinstance(loss, Sum):
        return sums_of(loss)
    parts = [(term.weight, *sums_of(term.loss)) for term in loss.terms]
    divisor = jnp.maximum(parts[0][2], 1e-5)
    # Over the first one's divisor, so that parts of a batch still add up to the batch.
    scaled = [w * s * (divisor / jnp.maximum(d, 1e-5)) for w, s, d in parts]
    return jnp.sum(jnp.stack(scaled)), divisor


def labelled_weight(label: Array, class_weights: tuple[float, ...]) -> Array:
    """Return each pixel's weight, shape of `label`: its class's weight, 0 where unlabelled."""
    labelled = label != IGNORE_LABEL
    if not class_weights:
        return labelled.astype(jnp.float32)
    weights = jnp.asarray(class_weights, jnp.float32)
    return jnp.where(labelled, weights[jnp.where(labelled, label, 0)], 0.0)


def _hardest(loss: CrossEntropy, losses: Array, label: Array, step: Array) -> tuple[Array, Array]:
    """Return weighted sum and weight of the hardest share of the labelled pixels.

    Hard-pixel mining as TensorFlow DeepLab anneals it: the share sinks linearly from 1 to
    `top_k`, and the divisor with it.
    """
    weight = labelled_weight(label, loss.class_weights)
    losses, total = losses * weight, jnp.sum(weight)
    if loss.top_k == 1:
        return jnp.sum(losses), total
    progress = jnp.minimum(step.astype(jnp.float32) / max(loss.top_k_steps, 1), 1.0)
    share = 1 - (1 - loss.top_k) * progress
    labelled = jnp.sum(weight > 0).astype(jnp.float32)
    count = jnp.ceil(share * labelled).astype(jnp.int32)
    # The count changes with the step and the labels, so rank by sorting, not by top_k.
    ranked = jnp.sort(losses.reshape(-1), descending=True)
    hardest = lax.iota(jnp.int32, ranked.size) < count
    return jnp.sum(ranked, where=hardest), total * share


def _labelled_mean(losses: Array, label: Array) -> tuple[Array, Array]:
    weight = labelled_weight(label, ())
    return jnp.sum(losses * weight), jnp.sum(weight)


def _own_log_probability(logits: Array, label: Array) -> Array:
    """Return the log probability of each pixel's label (B, H, W), of class 0 if unlabelled."""
    known = jnp.where(label == IGNORE_LABEL, 0, label)
    log_probabilities = jax.nn.log_softmax(logits)
    return jnp.take_along_axis(log_probabilities, known[..., None], axis=-1)[..., 0]


def _smoothed(logits: Array, label: Array, smoothing: float) -> Array:
    """Return the cross entropy with a share of the target spread over all classes (B, H, W)."""
    everywhere = jnp.mean(jax.nn.log_softmax(logits), axis=-1)
    return -(1 - smoothing) * _own_log_probability(logits, label) - smoothing * everywhere


def _overlap(softmax: Softmax, label: Array) -> tuple[Array, Array, Array]:
    """Return soft intersection, sum of both sizes, and whether a class is labelled, (C,) each."""
    overlap, mass = jnp.sum(softmax.overlap, 0), jnp.sum(softmax.mass, 0)
    # 255 is no class, so it is counted nowhere.
    area = jnp.sum(jax.nn.one_hot(label, mass.size, dtype=mass.dtype), (0, 1, 2))
    return overlap, mass + area, area > 0


def _mean_over_classes(losses: Array, present: Array) -> tuple[Array, Array]:
    number = jnp.maximum(jnp.sum(present), 1).astype(losses.dtype)
    # A part of a batch without labels does not count.
    return jnp.sum(losses, where=present) / number, jnp.any(present).astype(losses.dtype)


def _lovasz(logits: Array, label: Array) -> tuple[Array, Array]:
    """Return the Lovász-softmax loss over the classes labelled (1705.08790, eq. 11)."""
    labelled = (label != IGNORE_LABEL).reshape(-1)
    probabilities = jax.nn.softmax(logits).reshape(-1, logits.shape[-1])
    target = jax.nn.one_hot(label.reshape(-1), logits.shape[-1], dtype=logits.dtype)
    errors = jnp.where(labelled[:, None], jnp.abs(target - probabilities), 0)

    def of_class(errors: Array, target: Array) -> Array:
        # Unlabelled pixels have error 0 and come last, where they add nothing.
        order = jnp.argsort(errors, descending=True)
        hit = target[order]
        missed = jnp.sum(hit) - jnp.cumsum(hit)
        union = jnp.sum(hit) + jnp.cumsum(labelled[order].astype(hit.dtype) - hit)
        jaccard = 1 - missed / jnp.maximum(union, 1)
        steps = jnp.diff(jaccard, prepend=jnp.zeros((1,), jaccard.dtype))
        return jnp.sum(errors[order] * lax.stop_gradient(steps))

    losses = jax.vmap(of_class, in_axes=1)(errors, target)
    return _mean_over_classes(losses, jnp.sum(target, axis=0) > 0)
