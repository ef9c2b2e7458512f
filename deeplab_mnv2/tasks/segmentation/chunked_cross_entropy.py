"""Cross entropy of logits upsampled a few rows at a time, with a gradient of its own.

The axes of the arrays below, for logits (B, h, w, C) and a label (B, H, W):

    logits    (B, h, w, C)            the network's
    widened   (h, B, C, W)            resized along the width, rows first
    rows      (n, CHUNK, h)           interpolation weights of n chunks of label rows
    full      (CHUNK, B, C, W)        a chunk of rows at full size: a row product away
    label     (n, CHUNK, B, W)        cut into the same chunks, the last one filled up
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.models.layers import interpolation

# Rows of the images whose logits exist at a time.
CHUNK = 32


def chunked_cross_entropy(logits: Array, label: Array, align_corners: bool) -> Array:
    """Return the cross entropy of each pixel (B, H, W), 0 where unlabelled.

    `logits` (B, h, w, classes) float32 are resized bilinearly to `label` (B, H, W) int32, a few
    rows at a time, forward and backward: at full size they would be the largest array of a
    training step by far. Differentiable in `logits`, in reverse mode.
    """
    return _chunked_cross_entropy(logits, label, align_corners)


def _value(logits: Array, label: Array, align_corners: bool) -> Array:
    return _losses(logits, label, align_corners)[0]


def _losses(logits: Array, label: Array, align_corners: bool) -> tuple[Array, Array]:
    """Return the losses, and the chunks of log(sum(exp(logits))) for the gradient."""
    rows, columns = _weights(logits, label, align_corners)
    widened = _widen(logits, columns)

    def losses(_: None, chunk: tuple[Array, Array]) -> tuple[None, tuple[Array, Array]]:
        weights, label = chunk
        full = _product(weights, widened)  # (CHUNK, B, classes, W)
        largest = jnp.max(full, 2)
        total = largest + jnp.log(jnp.sum(jnp.exp(full - largest[:, :, None]), 2))
        own = jnp.sum(jnp.where(_is_class(label, full), full, 0), 2)
        return None, (jnp.where(label == IGNORE_LABEL, 0, total - own), total)

    _, (chunks, totals) = lax.scan(losses, None, (rows, _chunks(label, IGNORE_LABEL)))
    whole = chunks.reshape(-1, *chunks.shape[2:])[: label.shape[1]]
    return jnp.swapaxes(whole, 0, 1), totals


def _losses_forward(
    logits: Array, label: Array, align_corners: bool
) -> tuple[Array, tuple[Array, Array, Array]]:
    losses, totals = _losses(logits, label, align_corners)
    return losses, (logits, label, totals)


def _losses_backward(
    align_corners: bool, residuals: tuple[Array, Array, Array], gradient: Array
) -> tuple[Array, None]:
    logits, label, totals = residuals
    rows, columns = _weights(logits, label, align_corners)
    widened = _widen(logits, columns)

    def accumulate(sums: Array, chunk: tuple[Array, ...]) -> tuple[Array, None]:
        weights, label, total, gradient = chunk
        full = _product(weights, widened)
        error = jnp.exp(full - total[:, :, None]) - _is_class(label, full).astype(full.dtype)
        return sums + _product(weights.T, error * gradient[:, :, None]), None

    gradient = jnp.where(label == IGNORE_LABEL, 0, gradient)
    chunks = (rows, _chunks(label, IGNORE_LABEL), totals, _chunks(gradient, 0))
    sums, _ = lax.scan(accumulate, jnp.zeros_like(widened), chunks)
    return jnp.transpose(_product(sums, columns), (1, 0, 3, 2)), None


_chunked_cross_entropy = jax.custom_vjp(_value, nondiff_argnums=(2,))
_chunked_cross_entropy.defvjp(_losses_forward, _losses_backward)


def _weights(logits: Array, label: Array, align_corners: bool) -> tuple[Array, Array]:
    """Return the interpolation weights of chunks of rows (n, CHUNK, h) and of columns (W, w)."""
    rows, columns = (
        interpolation(logits.shape[axis], label.shape[axis], align_corners, logits.dtype)
        for axis in (1, 2)
    )
    missing = -rows.shape[0] % CHUNK
    return jnp.pad(rows, ((0, missing), (0, 0))).reshape(-1, CHUNK, rows.shape[1]), columns


def _product(x: Array, y: Array) -> Array:
    # In full float32: GPUs and TPUs would round the interpolation weights to a few bits.
    return jnp.tensordot(x, y, 1, precision="highest")


def _widen(logits: Array, columns: Array) -> Array:
    # Columns last and rows first: no product below has to transpose anything.
    return _product(jnp.transpose(logits, (1, 0, 3, 2)), columns.T)  # (h, B, classes, W)


def _chunks(x: Array, fill: int) -> Array:
    """Return (B, H, W) as chunks of rows (n, CHUNK, B, W), the last one filled up."""
    x = jnp.swapaxes(x, 0, 1)
    missing = -x.shape[0] % CHUNK
    x = jnp.pad(x, ((0, missing), (0, 0), (0, 0)), constant_values=fill)
    return x.reshape(-1, CHUNK, *x.shape[1:])


def _is_class(label: Array, logits: Array) -> Array:
    """Return where the class along axis 2 of `logits` is the label's (CHUNK, B, W)."""
    return lax.broadcasted_iota(label.dtype, logits.shape, 2) == label[:, :, None]
