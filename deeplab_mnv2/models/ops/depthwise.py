"""Depthwise convolution with its own gradients: JAX's grouped convolution is slow on CPUs."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from deeplab_mnv2.models.ops.pixel_sums import sum_pixels, wide
from deeplab_mnv2.models.ops.taps import Edges, Window, pad


@functools.partial(jax.jit, static_argnames=("stride", "dilation", "padding"))
def depthwise_conv(
    x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1, padding: str = "same"
) -> Array:
    """Filter each channel of `x` with a kernel of its own; differentiable in reverse mode.

    `x` (B, H, W, C), `kernel` (kh, kw, 1, C); returns (B, H', W', C) in the dtype of `x`, summed
    in float32 or wider. `padding` is "same" (TensorFlow's: H' = ceil(H / stride), an odd zero goes
    after the image) or "symmetric" (PyTorch's: dilation * (k - 1) // 2 zeros on either side).

    A CPU runs shifted multiply-adds, other devices run a grouped convolution; in a jaxpr both are
    one call named `depthwise_conv`. GPUs have no kernel of their own here: Pallas' Triton backend
    is deprecated since JAX 0.11 and will be removed, and its Mosaic backend needs Hopper.

    Raises:
        ValueError: the kernel does not fit the channels of `x`, or `padding` is unknown.
    """
    if kernel.ndim != 4 or kernel.shape[2:] != (1, x.shape[3]):
        raise ValueError(f"x {x.shape} takes a kernel (kh, kw, 1, {x.shape[3]}): {kernel.shape}")
    if padding not in ("same", "symmetric"):
        raise ValueError(f'padding is "same" or "symmetric": {padding!r}')
    return _convolve(x, kernel, Window(stride, dilation, padding))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, window: Window) -> Array:
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_shifted, window),
        default=functools.partial(_grouped, window),
    )


def _convolve_forward(x: Array, kernel: Array, window: Window) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, window), (x, kernel)


def _convolve_backward(
    window: Window, residuals: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    dx = lax.platform_dependent(
        *residuals,
        dy,
        cpu=functools.partial(_shifted_input_gradient, window),
        default=functools.partial(_grouped_input_gradient, window),
    )
    return dx, _kernel_gradient(window, *residuals, dy)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _shifted(window: Window, x: Array, kernel: Array) -> Array:
    return _sum_taps(window, x, kernel, window.edges(x, kernel))


def _shifted_input_gradient(window: Window, x: Array, kernel: Array, dy: Array) -> Array:
    (top, bottom), (left, right) = window.edges(x, kernel)
    down, across = (window.dilation * (taps - 1) for taps in kernel.shape[:2])
    if window.stride == 1:
        # A convolution with the flipped kernel, padded by the rest of its span.
        edges = ((down - top, down - bottom), (across - left, across - right))
        return _sum_taps(window, dy, kernel[::-1, ::-1], edges)
    # Each tap adds its share to the grid of the padded input, with gaps for the stride; XLA fuses
    # all taps into one loop. The zeros around `dy` make it a copy in memory: otherwise whatever
    # computes it would run once for each tap.
    weights, spread = wide(kernel), wide(lax.optimization_barrier(pad(dy, ((1, 1), (1, 1)))))
    shares = []
    for i, j in np.ndindex(kernel.shape[:2]):
        a, b = i * window.dilation, j * window.dilation
        shares.append(
            pad(
                spread * weights[i, j][None, None],
                ((a, down - a), (b, across - b)),
                window.stride - 1,
            )
        )
    grid = functools.reduce(operator.add, shares)
    _, height, width, _ = grid.shape
    top, left = top + window.stride, left + window.stride
    crop = ((-top, top + x.shape[1] - height), (-left, left + x.shape[2] - width))
    return pad(grid, crop).astype(x.dtype)  # (B, H, W, C)


def _grouped(window: Window, x: Array, kernel: Array) -> Array:
    return window.convolve(x, kernel, groups=x.shape[3])


def _grouped_input_gradient(window: Window, x: Array, kernel: Array, dy: Array) -> Array:
    (dx,) = jax.linear_transpose(lambda x: _grouped(window, x, kernel), x)(dy)
    return dx


def _kernel_gradient(window: Window, x: Array, kernel: Array, dy: Array) -> Array:
    # XLA's gradient of the grouped convolution is fast on TPUs alone: a tenth of the cycles, by
    # the compiler's estimate (experiments/tools/kernel_gradient.py).
    return lax.platform_dependent(
        x,
        kernel,
        dy,
        tpu=functools.partial(_grouped_kernel_gradient, window),
        default=functools.partial(_summed_kernel_gradient, window),
    )


def _grouped_kernel_gradient(window: Window, x: Array, kernel: Array, dy: Array) -> Array:
    (dkernel,) = jax.linear_transpose(lambda kernel: _grouped(window, x, kernel), kernel)(dy)
    return dkernel


def _summed_kernel_gradient(window: Window, x: Array, kernel: Array, dy: Array) -> Array:
    views = window.views(x, kernel, window.edges(x, kernel))
    sums = sum_pixels(*(wide(view) * wide(dy) for view in views))
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _sum_taps(window: Window, x: Array, kernel: Array, edges: Edges) -> Array:
    """Convolve `x` padded by `edges`, one shifted product for each tap of the kernel."""
    weights = wide(kernel).reshape(-1, 1, 1, 1, kernel.shape[3])
    views = window.views(x, kernel, edges)
    products = [wide(view) * weight for view, weight in zip(views, weights, strict=True)]
    return functools.reduce(operator.add, products).astype(x.dtype)  # (B, H', W', C)
