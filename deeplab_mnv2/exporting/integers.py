"""The integers that stand for kernels and biases in int8 files."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from deeplab_mnv2.exporting.graph import Convolution, Graph
from deeplab_mnv2.models.ops.fake_quantization import kernel_scale, scale_and_zero_point

# Least largest weight of a channel, relative to its bias.
_LEAST_WEIGHT = 1e-4


def with_scales(graph: Graph) -> Graph:
    """Return the graph with no bias that overflows 32 bits in units of its kernel's scale.

    Trained networks have channels of zeros and a bias; the scale of these, 1e-11, is so fine that
    the bias is lost. A weight of 1e-4 of the bias is less than any rounding.
    """
    operations = [
        _with_scale(operation) if isinstance(operation, Convolution) else operation
        for operation in graph.operations
    ]
    return dataclasses.replace(graph, operations=operations)


def activation_scale(ends: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return scale (float32) and zero point (int8) of activations in a range, scalars."""
    scale, zero_point = scale_and_zero_point(*(jnp.float32(end) for end in ends))
    return np.asarray(scale), np.asarray(zero_point, np.int8)


def kernel_integers(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a kernel (k, k, I, O) as int8 and its scales (O,) float32."""
    scale = np.asarray(kernel_scale(jnp.asarray(kernel)))
    return np.rint(kernel / scale).astype(np.int8), scale.reshape(-1)


def _with_scale(conv: Convolution) -> Convolution:
    least = _LEAST_WEIGHT * np.abs(conv.bias)
    is_short = np.abs(conv.kernel).max(axis=(0, 1, 2)) < least
    kernel = conv.kernel.copy()
    kernel[0, 0, 0, is_short] = least[is_short]
    return dataclasses.replace(conv, kernel=kernel)
