"""Depthwise convolution with its own gradients: JAX's grouped convolution is slow on CPUs."""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from deeplab_mnv2.models.reduction import sum_pixels

Edges = tuple[tuple[int, int], tuple[int, int]]  # rows above and below, columns left and right


class _Window(NamedTuple):
    stride: int
    dilation: int
    padding: str


@functools.partial(jax.jit, static_argnames=("stride", "dilation", "padding"))
def depthwise_conv(
    x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1, padding: str = "same"
) -> Array:
    """Filter each channel of `x` with a kernel of its own; differentiable in reverse mode.

    `x` (B, H, W, C), `kernel` (kh, kw, 1, C); returns (B, H', W', C) in the dtype of `x`, summed
    in float32 or wider. `padding` is "same" (TensorFlow's: H' = ceil(H / stride), an odd zero goes
    after the image) or "symmetric" (PyTorch's: dilation * (k - 1) // 2 zeros on either side).

    A CPU runs shifted multiply-adds, other devices a grouped convolution. In a jaxpr either is one
    call named `depthwise_conv`.

    Raises:
        ValueError: the kernel does not fit the channels of `x`, or `padding` is unknown.
    """
    if kernel.ndim != 4 or kernel.shape[2:] != (1, x.shape[3]):
        raise ValueError(f"x {x.shape} takes a kernel (kh, kw, 1, {x.shape[3]}): {kernel.shape}")
    if padding not in ("same", "symmetric"):
        raise ValueError(f'padding is "same" or "symmetric": {padding!r}')
    return _convolve(x, kernel, _Window(stride, dilation, padding))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, window: _Window) -> Array:
    return _per_platform(window, cpu=_shifted, default=_grouped)(x, kernel)


def _convolve_forward(
    x: Array, kernel: Array, window: _Window
) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, window), (x, kernel)


def _convolve_backward(
    window: _Window, residuals: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    input_gradient = _per_platform(
        window, cpu=_shifted_input_gradient, default=_grouped_input_gradient
    )
    return input_gradient(*residuals, dy), _kernel_gradient(window, *residuals, dy)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _per_platform(window: _Window, **branches: Callable[..., Array]) -> Callable[..., Array]:
    """Return the function of arrays that picks a branch by the platform it is compiled for."""
    bound = {name: functools.partial(branch, window) for name, branch in branches.items()}
    return functools.partial(lax.platform_dependent, **bound)


def _shifted(window: _Window, x: Array, kernel: Array) -> Array:
    return _sum_taps(window, x, kernel, _edges(window, x, kernel))


def _shifted_input_gradient(window: _Window, x: Array, kernel: Array, dy: Array) -> Array:
    (top, bottom), (left, right) = _edges(window, x, kernel)
    down, across = (window.dilation * (taps - 1) for taps in kernel.shape[:2])
    if window.stride == 1:
        # The flipped kernel, over what its windows reach beyond the image.
        edges = ((down - top, down - bottom), (across - left, across - right))
        return _sum_taps(window, dy, kernel[::-1, ::-1], edges)
    # Each tap lays its share on the padded input's grid, with gaps; XLA fuses all into one loop.
    # A zero around `dy` makes it a copy: what computes it would else run once for each tap.
    weights, wide = _wide(kernel), _wide(lax.optimization_barrier(_pad(dy, ((1, 1), (1, 1)))))
    shares = []
    for i, j in np.ndindex(kernel.shape[:2]):
        a, b = i * window.dilation, j * window.dilation
        shares.append(
            _pad(wide * weights[i, j, 0], ((a, down - a), (b, across - b)), window.stride - 1)
        )
    grid = functools.reduce(operator.add, shares)
    _, height, width, _ = grid.shape
    top, left = top + window.stride, left + window.stride
    crop = ((-top, top + x.shape[1] - height), (-left, left + x.shape[2] - width))
    return _pad(grid, crop).astype(x.dtype)  # (B, H, W, C)


def _grouped(window: _Window, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        window_strides=(window.stride, window.stride),
        # SAME by name: pads as numbers may not be symbolic.
        padding="SAME" if window.padding == "same" else _edges(window, x, kernel),
        rhs_dilation=(window.dilation, window.dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3],
    )  # GPU and TPU sum bfloat16 in float32 unasked


def _grouped_input_gradient(window: _Window, x: Array, kernel: Array, dy: Array) -> Array:
    (dx,) = jax.linear_transpose(lambda x: _grouped(window, x, kernel), x)(dy)
    return dx


def _kernel_gradient(window: _Window, x: Array, kernel: Array, dy: Array) -> Array:
    # Sums of products: XLA's transposed grouped convolution is the slow part elsewhere too.
    views = _views(window, x, kernel, _edges(window, x, kernel))
    sums = sum_pixels(*(_wide(view) * _wide(dy) for view in views))
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _sum_taps(window: _Window, x: Array, kernel: Array, edges: Edges) -> Array:
    """Convolve `x` padded by `edges`, one shifted product for each tap of the kernel."""
    weights = _wide(kernel).reshape(-1, kernel.shape[3])
    views = _views(window, x, kernel, edges)
    products = [_wide(view) * weight for view, weight in zip(views, weights, strict=True)]
    return functools.reduce(operator.add, products).astype(x.dtype)  # (B, H', W', C)


def _views(window: _Window, x: Array, kernel: Array, edges: Edges) -> list[Array]:
    """Return what each tap of the kernel sees of `x` padded by `edges`: (B, H', W', C) each."""
    # The barrier makes all taps read the padded copy, the centre one too: whatever computes `x`
    # is then fused into the padding and runs once.
    padded = lax.optimization_barrier(_pad(x, edges))
    batch, height, width, channels = padded.shape
    stride, dilation, _ = window
    rows, columns = (dilation * (taps - 1) for taps in kernel.shape[:2])
    height, width = height - rows, width - columns  # where the first pixel of a window may lie
    views = []
    for i, j in np.ndindex(kernel.shape[:2]):
        top, left = i * dilation, j * dilation
        end = (batch, top + height, left + width, channels)
        views.append(lax.slice(padded, (0, top, left, 0), end, (1, stride, stride, 1)))
    return views


def _edges(window: _Window, x: Array, kernel: Array) -> Edges:
    """Return the zeros around `x`, whose size may be symbolic."""
    spans = [window.dilation * (taps - 1) for taps in kernel.shape[:2]]
    if window.padding == "symmetric":
        top, left = (span // 2 for span in spans)
        return (top, top), (left, left)
    rows, columns = lax.padtype_to_pads(
        x.shape[1:3], [span + 1 for span in spans], (window.stride, window.stride), "SAME"
    )
    return rows, columns


def _pad(x: Array, edges: Edges, gap: int = 0) -> Array:
    """Lay zeros around `x`, or crop where `edges` are negative; `gap` zeros between pixels."""
    (top, bottom), (left, right) = edges
    config = ((0, 0, 0), (top, bottom, gap), (left, right, gap), (0, 0, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _wide(x: Array) -> Array:
    """Return `x` in the type that sums are taken in."""
    return x.astype(np.promote_types(x.dtype, np.float32))
