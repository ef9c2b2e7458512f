"""What convolutions of ours are compared with, and how closely."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def example(shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Return normal numbers that bfloat16 holds exactly."""
    numbers = np.random.default_rng(sum(shape)).normal(size=shape)
    return jnp.asarray(numbers, jnp.bfloat16).astype(dtype)


def reference_conv(x: Array, kernel: Array, *, stride: int, dilation: int, padding: str) -> Array:
    """Return the compiler's convolution, in as many groups as the kernel's shape says."""
    pads = [(dilation * (taps - 1) // 2,) * 2 for taps in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding="SAME" if padding == "same" else pads,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3] // kernel.shape[2],
    )


def value_and_gradients(
    convolve: Callable[..., Array], x: Array, kernel: Array, **settings
) -> list[Array]:
    """Return the output and the gradients of a weighted sum of it for input and kernel."""

    @jax.jit
    def run(x: Array, kernel: Array) -> list[Array]:
        y, pull_back = jax.vjp(lambda x, k: convolve(x, k, **settings), x, kernel)
        return [y, *pull_back(example(y.shape, y.dtype))]

    return run(x, kernel)


def assert_close(actual: list[Array], expected: list[Array]) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        # Sums are taken in float32 and rounded once: bfloat16 keeps eight bits.
        tolerance = 2**-8 if ours.dtype == jnp.bfloat16 else 1e-5
        theirs = np.asarray(theirs, np.float32)
        np.testing.assert_allclose(
            np.asarray(ours, np.float32), theirs, rtol=tolerance, atol=1e-6 * np.abs(theirs).max()
        )
