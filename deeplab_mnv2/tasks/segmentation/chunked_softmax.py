"""Softmax of logits upsampled a few rows at a time, with a gradient of its own.

The axes of the arrays below, for logits (B, h, w, C) and a label (B, H, W):

    logits    (B, h, w, C)            the network's
    widened   (h, B, C, W)            resized along the width, rows first
    rows      (n, CHUNK, k)           interpolation weights of n chunks of label rows
    band      (k, B, C, W)            the widened rows that a chunk lies between
    full      (CHUNK, B, C, W)        a chunk of rows at full size: a row product away
    label     (n, CHUNK, B, W)        cut into the same chunks, the last one filled up
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.models.layers import interpolation, sample_positions

# Rows of the images whose logits exist at a time.
CHUNK = 32


class Softmax(NamedTuple):
    """What losses need of a batch's probabilities at full size; unlabelled pixels count nowhere.

    cross_entropy: of each pixel, (B, H, W), 0 where unlabelled.
    overlap: sum of the probabilities of the labelled class, (B, C).
    mass: sum of each class's probabilities, (B, C).
    """

    cross_entropy: Array
    overlap: Array
    mass: Array


def chunked_softmax(logits: Array, label: Array, align_corners: bool) -> Softmax:
    """Return what the losses need of softmax at the labels' size.

    `logits` (B, h, w, classes) float32 are resized bilinearly to `label` (B, H, W) int32, a few
    rows at a time, forward and backward: at full size they would be the largest array of a
    training step by far. Differentiable in `logits`, in reverse mode.
    """
    return _chunked_softmax(logits, label, align_corners)


def _value(logits: Array, label: Array, align_corners: bool) -> Softmax:
    return _softmax(logits, label, align_corners)[0]


def _softmax(logits: Array, label: Array, align_corners: bool) -> tuple[Softmax, Array]:
    """Return the sums, and the chunks of log(sum(exp(logits))) for the gradient."""
    rows, starts, columns = _weights(logits, label, align_corners)
    widened = _widen(logits, columns)
    # Sums of each image, so that none crosses devices that share a batch.
    none = jnp.zeros((logits.shape[0], logits.shape[-1]), logits.dtype)

    def of_chunk(
        sums: tuple[Array, Array], chunk: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        weights, start, label = chunk
        overlap, mass = sums
        full = _product(weights, _band(widened, start, weights))  # (CHUNK, B, classes, W)
        labelled, own_class = label != IGNORE_LABEL, _is_class(label, full)
        largest = jnp.max(full, 2)
        exponents = jnp.exp(full - largest[:, :, None])
        total = jnp.sum(exponents, 2)
        probability = exponents * (labelled / total)[:, :, None]
        overlap += jnp.sum(jnp.where(own_class, probability, 0), (0, 3))
        mass += jnp.sum(probability, (0, 3))
        total = largest + jnp.log(total)
        own = jnp.sum(jnp.where(own_class, full, 0), 2)
        return (overlap, mass), (jnp.where(labelled, total - own, 0), total)

    chunks = (rows, starts, _chunks(label, IGNORE_LABEL))
    (overlap, mass), (losses, totals) = lax.scan(of_chunk, (none, none), chunks)
    losses = losses.reshape(-1, *losses.shape[2:])[: label.shape[1]]  # (H, B, W)
    return Softmax(jnp.swapaxes(losses, 0, 1), overlap, mass), totals


def _forward(
    logits: Any, label: Any, align_corners: bool
) -> tuple[Softmax, tuple[Array, Array, Array]]:
    values, totals = _softmax(logits.value, label.value, align_corners)
    return values, (logits.value, label.value, totals)


def _backward(
    align_corners: bool, residuals: tuple[Array, Array, Array], gradient: Softmax
) -> tuple[Array, None]:
    logits, label, totals = residuals
    rows, starts, columns = _weights(logits, label, align_corners)
    widened = _widen(logits, columns)
    of_losses, of_overlap, of_mass = (
        None if isinstance(part, SymbolicZero) else part for part in gradient
    )

    def accumulate(
        sums: Array, chunk: tuple[Array, Array, Array, Array, Any]
    ) -> tuple[Array, None]:
        weights, start, label, total, of_losses = chunk
        full = _product(weights, _band(widened, start, weights))
        probability, own_class = jnp.exp(full - total[:, :, None]), _is_class(label, full)
        error = jnp.zeros_like(full)
        if of_losses is not None:
            error += (probability - own_class) * of_losses[:, :, None]
        # The gradient of the labelled pixels' probabilities, and through softmax of their logits.
        # Kept where it is zero: without it XLA fuses the rest otherwise, and cross entropy alone
        # takes a quarter longer on a CPU.
        slope = jnp.zeros_like(full)
        if of_mass is not None:
            slope += of_mass[None, :, :, None]
        if of_overlap is not None:
            slope += jnp.where(own_class, of_overlap[None, :, :, None], 0)
        slope *= probability * (label != IGNORE_LABEL)[:, :, None]
        error += slope - probability * jnp.sum(slope, 2, keepdims=True)
        band = _band(sums, start, weights) + _product(weights.T, error)
        return lax.dynamic_update_slice_in_dim(sums, band, start, 0), None

    if of_losses is not None:
        of_losses = _chunks(jnp.where(label == IGNORE_LABEL, 0, of_losses), 0)
    chunks = (rows, starts, _chunks(label, IGNORE_LABEL), totals, of_losses)
    sums, _ = lax.scan(accumulate, jnp.zeros_like(widened), chunks)
    return jnp.transpose(_product(sums, columns), (1, 0, 3, 2)), None


_chunked_softmax = jax.custom_vjp(_value, nondiff_argnums=(2,))
_chunked_softmax.defvjp(_forward, _backward, symbolic_zeros=True)


def _weights(logits: Array, label: Array, align_corners: bool) -> tuple[Array, Array, Array]:
    """Return interpolation weights: of rows (n, CHUNK, k), with their first one (n,); (W, w).

    Each chunk of label rows lies between a few rows of the logits, `k` at most.
    """
    rows, columns = (
        interpolation(logits.shape[axis], label.shape[axis], align_corners, logits.dtype)
        for axis in (1, 2)
    )
    height, new_height = logits.shape[1], label.shape[1]
    at = sample_positions(np.arange(new_height), height, new_height, align_corners)
    begin = np.arange(0, new_height, CHUNK)
    end = np.minimum(begin + CHUNK, new_height) - 1
    # Half a row more on either side, so that no rounding leaves one out.
    first = np.floor(at[begin] - 0.5).clip(0).astype(np.int32)
    size = min(int(np.max(np.ceil(at[end] + 0.5) - first)) + 1, height)
    starts = jnp.asarray(np.minimum(first, height - size))
    rows = jnp.pad(rows, ((0, -new_height % CHUNK), (0, 0))).reshape(-1, CHUNK, height)
    of_band = jax.vmap(lambda x, start: lax.dynamic_slice_in_dim(x, start, size, 1))
    return of_band(rows, starts), starts, columns


def _band(rows: Array, start: Array, weights: Array) -> Array:
    """Return the rows that `weights` (CHUNK, k) are of."""
    return lax.dynamic_slice_in_dim(rows, start, weights.shape[1], 0)


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
