"""The geometry of a convolution: its padding, and the slice of the input that each tap reads."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Edges = tuple[tuple[int, int], tuple[int, int]]  # rows above and below, columns left and right


class Window(NamedTuple):
    """Stride, dilation and padding, "same" or "symmetric", of square windows."""

    stride: int
    dilation: int
    padding: str

    def edges(self, x: Array, kernel: Array) -> Edges:
        """Return how many zeros are added around `x`, whose size may be symbolic."""
        return self.axis_edges(x.shape[1], kernel.shape[0]), self.axis_edges(
            x.shape[2], kernel.shape[1]
        )

    def axis_edges(self, length: int, taps: int) -> tuple[int, int]:
        """Return the zeros before and after an axis under a kernel of `taps`."""
        span = self.dilation * (taps - 1)
        if self.padding == "symmetric":
            return span // 2, span // 2
        (edges,) = lax.padtype_to_pads((length,), (span + 1,), (self.stride,), "SAME")
        return edges

    def views(self, x: Array, kernel: Array, edges: Edges) -> list[Array]:
        """Return what each tap reads of `x` padded by `edges`: (B, H', W', C) each."""
        # The barrier makes all taps read the padded copy, even the centre one, which needs no
        # padding. Whatever computes `x` is then fused into the padding and runs once.
        padded = lax.optimization_barrier(pad(x, edges))
        batch, height, width, channels = padded.shape
        rows, columns = (self.dilation * (taps - 1) for taps in kernel.shape[:2])
        height, width = height - rows, width - columns  # the positions of a window's first pixel
        views = []
        for i, j in np.ndindex(kernel.shape[:2]):
            top, left = i * self.dilation, j * self.dilation
            end = (batch, top + height, left + width, channels)
            strides = (1, self.stride, self.stride, 1)
            views.append(lax.slice(padded, (0, top, left, 0), end, strides))
        return views

    def convolve(self, x: Array, kernel: Array, groups: int = 1) -> Array:
        """Return XLA's own convolution of `x` (B, H, W, I) with `kernel` (kh, kw, I/groups, O)."""
        return lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            window_strides=(self.stride, self.stride),
            # SAME by name: padding in numbers may not be symbolic.
            padding="SAME" if self.padding == "same" else self.edges(x, kernel),
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # GPUs and TPUs sum bfloat16 in float32 by default


def pad(x: Array, edges: Edges, gap: int = 0) -> Array:
    """Add zeros around `x`, or crop where `edges` are negative; put `gap` zeros between pixels."""
    (top, bottom), (left, right) = edges
    config = ((0, 0, 0), (top, bottom, gap), (left, right, gap), (0, 0, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), config)
