"""Batch norm and the activation after it, with one gradient for both."""

import math
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from deeplab_mnv2.models.ops.pixel_sums import sum_pixels, wide

Activation = Callable[[Array], Array]
Residuals = tuple[Array, Array, Array, Array, Array]

# Between these bounds an activation has slope 1; elsewhere, bounds included, it has slope 0, as
# in TensorFlow and PyTorch.
_LINEAR: dict[Activation | None, tuple[float, float]] = {
    None: (-math.inf, math.inf),
    nnx.relu: (0.0, math.inf),
    nnx.relu6: (0.0, 6.0),
}


class BatchNorm(nnx.BatchNorm):
    """Flax's batch norm of (B, H, W, C), followed by an activation.

    In training the gradient is written by hand: it keeps only the input of each layer and reads it
    twice. The gradient that JAX derives keeps and reads several arrays.
    """

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] - Flax's flags are unused
        self, x: Array, activation: Activation | None = None
    ) -> Array:
        """Normalise, in training by the statistics of the batch, and activate.

        `activation` is `nnx.relu`, `nnx.relu6` or None.
        """
        # They are None only if Flax is asked to leave them out.
        scale, bias = cast(nnx.Param, self.scale), cast(nnx.Param, self.bias)
        if self.use_running_average:
            mean, var = cast(nnx.BatchStat, self.mean), cast(nnx.BatchStat, self.var)
            # Not Flax's own, which takes bfloat16's sums for the gradients of scale and bias.
            factor = lax.rsqrt(var[...] + self.epsilon) * scale[...]
            y = _scale(wide(x), mean[...], factor, bias[...])
            return (y if activation is None else activation(y)).astype(x.dtype)
        y, mean, var = _normalize(x, scale[...], bias[...], self.epsilon, activation)
        for running, value in ((self.mean, mean), (self.var, var)):
            running[...] = self.momentum * running[...] + (1 - self.momentum) * value
        return y


def _value(
    x: Array, scale: Array, bias: Array, epsilon: float, activation: Activation | None
) -> tuple[Array, Array, Array]:
    """Return the result and the batch's mean and variance, which carry no gradient."""
    return _forward(x, scale, bias, epsilon, activation)[0]


def _forward(
    x: Array, scale: Array, bias: Array, epsilon: float, activation: Activation | None
) -> tuple[tuple[Array, Array, Array], Residuals]:
    values = x.astype(jnp.float32)
    count = math.prod(x.shape[:3])
    total, squares = sum_pixels(values, values * values)
    mean = total / count
    var = jnp.maximum(squares / count - mean * mean, 0)
    inverse = lax.rsqrt(var + epsilon)
    y = _scale(values, mean, inverse * scale, bias)
    if activation is not None:
        y = jnp.clip(y, *_LINEAR[activation])
    return (y.astype(x.dtype), mean, var), (x, scale, bias, mean, inverse)


def _backward(
    epsilon: float,
    activation: Activation | None,
    residuals: Residuals,
    gradients: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array]:
    x, scale, bias, mean, inverse = residuals
    low, high = _LINEAR[activation]
    dy = _apart(gradients[0]).astype(jnp.float32)
    normalized = (x.astype(jnp.float32) - _each(mean)) * _each(inverse)
    if activation is not None:
        y = normalized * _each(scale) + _each(bias)
        dy = jnp.where((low < y) & (y < high), dy, 0)
    dbias, dscale = sum_pixels(dy, dy * normalized)
    count = math.prod(x.shape[:3])
    shift, slope = _each(dbias / count), _each(dscale / count)
    dx = (dy - shift - normalized * slope) * _each(inverse * scale)
    return _apart(dx.astype(x.dtype)), dscale, dbias


def _apart(x: Array) -> Array:
    """Keep XLA from fusing, and so recomputing, the layers before and after; `x` itself.

    On TPUs fusing them pays: an eighth of a step's cycles, by the compiler's estimate.
    """
    return lax.platform_dependent(x, tpu=lambda x: x, default=lax.optimization_barrier)


def _scale(x: Array, mean: Array, factor: Array, bias: Array) -> Array:
    return (x - _each(mean)) * _each(factor) + _each(bias)


def _each(x: Array) -> Array:
    """Return values of channels (C,) as (1, 1, 1, C), for every pixel."""
    return x[None, None, None]


_normalize = jax.custom_vjp(_value, nondiff_argnums=(3, 4))
_normalize.defvjp(_forward, _backward)
