"""The 1x1 convolution: a matrix product whose gradient transposes only the smaller factor."""

import jax
from jax import Array, lax


@jax.custom_vjp
def pointwise(x: Array, kernel: Array) -> Array:
    """Return `x` (B, H, W, I) @ `kernel` (I, O); differentiable in reverse mode."""
    return x @ kernel


def _pointwise_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _pointwise_backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    # XLA's CPU backend transposes the first factor of such a product in memory. In the gradient
    # that JAX derives, this is `dy`, which after an expansion is six times as large as `x`.
    pixels = (((0, 1, 2), (0, 1, 2)), ((), ()))
    if kernel.shape[0] <= kernel.shape[1]:
        dkernel = lax.dot_general(x, dy, pixels)
    else:
        # The barrier keeps XLA from swapping the factors back.
        dkernel = lax.optimization_barrier(lax.dot_general(dy, x, pixels)).T
    return dy @ kernel.T, dkernel


pointwise.defvjp(_pointwise_forward, _pointwise_backward)
