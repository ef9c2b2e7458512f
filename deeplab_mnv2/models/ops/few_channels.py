"""Ordinary convolution; a CPU computes inputs of at most four channels as multiply-adds."""

import functools
import operator

import jax
from jax import Array, lax

from deeplab_mnv2.models.ops.pixel_sums import wide
from deeplab_mnv2.models.ops.taps import Window

# Up to this number of input channels a CPU runs multiply-adds. For the first layer XLA's own
# convolution takes three times as long, because its inner products are so short.
FEW_CHANNELS = 4


def full_conv(
    x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1, padding: str = "same"
) -> Array:
    """Convolve `x` (B, H, W, I) with `kernel` (kh, kw, I, O) into (B, H', W', O), dtype of `x`.

    `padding` as in `depthwise_conv`. Differentiable in reverse mode.
    """
    window = Window(stride, dilation, padding)
    if kernel.shape[2] > FEW_CHANNELS:
        return window.convolve(x, kernel)
    return _few_channels(x, kernel, window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _few_channels(x: Array, kernel: Array, window: Window) -> Array:
    return lax.platform_dependent(
        x, kernel, cpu=functools.partial(_multiply_add, window), default=window.convolve
    )


def _forward(x: Array, kernel: Array, window: Window) -> tuple[Array, tuple[Array, Array]]:
    return _few_channels(x, kernel, window), (x, kernel)


def _backward(window: Window, residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    # XLA's own gradients are fast; the gradient of an image is computed only if it is used.
    _, gradient = jax.vjp(window.convolve, *residuals)
    return gradient(dy)


_few_channels.defvjp(_forward, _backward)


def _multiply_add(window: Window, x: Array, kernel: Array) -> Array:
    views = window.views(x, kernel, window.edges(x, kernel))
    weights = wide(kernel).reshape(len(views), 1, 1, 1, *kernel.shape[2:])
    products = [
        wide(view[..., channel, None]) * weight[..., channel, :]
        for view, weight in zip(views, weights, strict=True)
        for channel in range(kernel.shape[2])
    ]
    return functools.reduce(operator.add, products).astype(x.dtype)  # (B, H', W', O)
