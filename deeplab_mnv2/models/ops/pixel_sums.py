"""Sums over the pixels of a batch, and the type that they are computed in."""

import functools
import operator

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# Rows summed at a time on a CPU. A sum this short is unrolled by XLA, which only then vectorises
# over the channels; and the nine sums of a 3x3 depthwise kernel still fit the registers.
CHUNK = 8


def wide(x: Array) -> Array:
    """Return `x` in the type that sums are computed in: float32 or wider."""
    return x.astype(np.promote_types(x.dtype, np.float32))


def sum_pixels(*arrays: Array) -> list[Array]:
    """Return the sums over batch, height and width of arrays (B, H, W, C), each (C,).

    If several of the arrays are computed from the same input, it is read only once.
    """
    return lax.platform_dependent(*arrays, cpu=_sum_chunks, default=_sum)


def _sum(*arrays: Array) -> list[Array]:
    return [jnp.sum(x, (0, 1, 2)) for x in arrays]


def _sum_chunks(*arrays: Array) -> list[Array]:
    batch, height, width, channels = arrays[0].shape
    # The last chunk takes the rows that are left over. DeepLab's maps have one row more than a
    # multiple of eight: by itself, XLA would make an operation of its own for each of the arrays.
    end = max(height // CHUNK - 1, 0) * CHUNK
    parts = []
    for first, last, size in ((0, end, CHUNK), (end, height, height - end)):
        if first == last:
            continue
        shape = (batch, (last - first) // size, size, width, channels)
        rows = lax.reduce(
            [lax.slice_in_dim(x, first, last, axis=1).reshape(shape) for x in arrays],
            [jnp.zeros((), x.dtype) for x in arrays],
            lambda a, b: [p + q for p, q in zip(a, b, strict=True)],
            (2,),
        )
        parts.append(_sum(*rows))
    return [functools.reduce(operator.add, sums) for sums in zip(*parts, strict=True)]
