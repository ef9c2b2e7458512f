"""Rounding to 8 bits in the network, as the int8 file rounds, with a gradient all the same.

The scheme is that of Jacob et al. 2018 (arXiv:1712.05877) as LiteRT has it: kernels have a scale
for each output channel and no zero point, activations one range a tensor, which holds zero. A
kernel is rounded before its norm is folded in: the norm's factor scales a whole channel, so that
the folded kernel would be rounded alike.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

_LOWEST, _HIGHEST = -128, 127
# Kernels leave the lowest number out, so that they are symmetric.
_LARGEST = 127
# As in the quantizer of LiteRT: no scale is zero.
_LEAST_WIDTH = 1e-9
# Below, a bias would not fit 32 bits; the exporter makes such units larger.
_LEAST_UNIT = 1e-9
# Of the moving average; ranges follow within a hundred steps.
_MOMENTUM = 0.99


def scale_and_zero_point(low: Array, high: Array) -> tuple[Array, Array]:
    """Return how int8 numbers q stand for values from `low` to `high`: scale * (q - zero point).

    The range is widened to hold zero.
    """
    low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
    scale = jnp.maximum(high - low, _LEAST_WIDTH) / (_HIGHEST - _LOWEST)
    return scale, jnp.round(_LOWEST - low / scale)


def fake_quantize(x: Array, low: Array | float, high: Array | float) -> Array:
    """Round `x` to the 256 values that stand for `low` to `high`; values beyond are cut off.

    The gradient is that of the cut: 1 within the range, 0 beyond. None flows to the range.
    """
    scale, zero_point = scale_and_zero_point(jnp.asarray(low), jnp.asarray(high))
    number = jnp.round(x / scale) + zero_point
    is_within = (number >= _LOWEST) & (number <= _HIGHEST)
    rounded = scale * (jnp.clip(number, _LOWEST, _HIGHEST) - zero_point)
    return _straight_through(x, rounded.astype(x.dtype), is_within)


def fake_quantize_kernel(kernel: Array) -> Array:
    """Round a kernel (k, k, I, O) to 255 values for each output channel; the gradient is 1."""
    scale = kernel_scale(kernel)
    return _straight_through(kernel, scale * jnp.round(kernel / scale), jnp.ones((), bool))


def kernel_scale(kernel: Array) -> Array:
    """Return what the integers of a kernel (k, k, I, O) are multiples of: (1, 1, 1, O)."""
    largest = jnp.max(jnp.abs(kernel), axis=(0, 1, 2), keepdims=True)
    return jnp.maximum(largest, _LEAST_WIDTH) / _LARGEST


def bias_correction(bias: Array, factor: Array, kernel: Array, step: Array) -> Array:
    """Return what rounding to 32 bits adds to the bias of each output (O,).

    In the file a bias counts in units of the input's step times the kernel's, norm's `factor`
    (O,) included. Such a unit is no more than a hundredth of what the output is rounded to, but
    the rounding after it tips over, and of a hundred layers each adds its own.
    """
    unit = step * kernel_scale(kernel).reshape(-1) * jnp.abs(factor)
    # A channel of zeros has no unit.
    rounded = jnp.where(unit > _LEAST_UNIT, unit * jnp.round(bias / unit), bias)
    return lax.stop_gradient(rounded - bias)


class Range(nnx.Module):
    """The range of one tensor of activations: measured in training, then what it is rounded in.

    The range is a moving average of the least and the largest value of each batch; the first batch
    sets it. Like norm statistics it stays as it is in evaluation mode and in frozen parts.
    """

    def __init__(self):
        self.low = nnx.BatchStat(jnp.zeros(()))
        self.high = nnx.BatchStat(jnp.zeros(()))
        # The name that Flax's `eval()` sets, also where norm alone is frozen.
        self.deterministic = False
        self.rounds = True
        self.momentum = _MOMENTUM

    @property
    def step(self) -> Array:
        """The distance between two values that tensors of this range can have."""
        return scale_and_zero_point(self.low[...], self.high[...])[0]

    def __call__(self, x: Array) -> Array:
        """Measure a tensor, in training, and round it."""
        self.measure(x)
        return self.round(x)

    def round(self, x: Array) -> Array:
        """Return a tensor rounded in the range as it is; as it is where `rounds` is off."""
        return fake_quantize(x, self.low[...], self.high[...]) if self.rounds else x

    def measure(self, *tensors: Array) -> None:
        """Move the range towards that of tensors which share it, in training."""
        if self.deterministic:
            return
        tensors = lax.stop_gradient(tensors)
        low = jnp.minimum(jnp.min(jnp.stack([jnp.min(x) for x in tensors])), 0)
        high = jnp.maximum(jnp.max(jnp.stack([jnp.max(x) for x in tensors])), 0)
        is_new = self.high[...] <= self.low[...]
        for mine, found in ((self.low, low), (self.high, high)):
            average = self.momentum * mine[...] + (1 - self.momentum) * found
            mine[...] = jnp.where(is_new, found, average).astype(jnp.float32)


def rounded(x: Array, within: Range | None) -> Array:
    """Return a tensor measured and rounded; as it is where there is no range."""
    return x if within is None else within(x)


def step_of(within: Range | None) -> Array | None:
    """Return what values rounded in a range are multiples of; None where there is no range."""
    return None if within is None else within.step


@jax.custom_vjp
def _straight_through(x: Array, rounded: Array, passes: Array) -> Array:
    """Return `rounded`, whose gradient goes to `x` where it `passes`."""
    return rounded


def _forward(x: Array, rounded: Array, passes: Array) -> tuple[Array, Array]:
    return rounded, passes


def _backward(passes: Array, gradient: Array) -> tuple[Array, None, None]:
    return jnp.where(passes, gradient, 0), None, None


_straight_through.defvjp(_forward, _backward)
