"""A network rounded to 8 bits after training, from images of the training split."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from deeplab_mnv2.exporting.graph import Convolution, Graph, evaluate
from deeplab_mnv2.exporting.tracing import trace
from deeplab_mnv2.models.layers import Conv, ConvNormAct
from deeplab_mnv2.models.ops.fake_quantization import fake_quantize_kernel
from deeplab_mnv2.weights.activation_ranges import Rounded, measure_ranges, with_ranges
from deeplab_mnv2.weights.model_weights import nodes

# Images for the means of biases; they settle long before the ranges do.
_MEAN_IMAGES = 24


def quantize(model: Rounded, images: Sequence[Array]) -> Rounded:
    """Return the network with ranges measured on normalised images (1, H, W, channels).

    Norm and biases make up for what rounding the kernels shifts: it changes a layer's mean output
    by the kernel's error times the mean input (Nagel et al. 2019, arXiv:1906.04721, Section 4.2),
    which in a depthwise layer is much.
    """
    twin = with_ranges(model)
    measure_ranges(twin, images)
    height, width = images[0].shape[1:3]
    graph = trace(model, (height, width), upsample=True)
    run = jax.jit(lambda image: _mean_inputs(graph, image))
    found = [run(image) for image in images[:_MEAN_IMAGES]]
    means = jax.tree.map(lambda *values: np.mean(values, axis=0), *found)
    norms = {layer.conv.path: layer.norm for layer in nodes(twin, ConvNormAct).values()}
    for conv in nodes(twin, Conv).values():
        shift = _shift(conv, means[conv.path])
        if conv.path in norms:
            # What shifts the norm's input shifts the mean that it takes off.
            mean = norms[conv.path].mean
            mean[...] = mean[...] + shift
        elif conv.bias is not None:
            conv.bias[...] = conv.bias[...] - shift
    return twin


def _mean_inputs(graph: Graph, image: Array) -> dict[str, Array]:
    """Return the mean of each channel of what the convolutions read, by their names."""
    tensors = evaluate(graph, image)
    return {
        operation.output: jnp.mean(tensors[operation.input], axis=(0, 1, 2))
        for operation in graph.operations
        if isinstance(operation, Convolution)
    }


def _shift(conv: Conv, mean: Array) -> Array:
    """Return by how much rounding the kernel shifts the mean of each output (O,)."""
    kernel = conv.kernel[...]
    by_input = jnp.sum(fake_quantize_kernel(kernel) - kernel, axis=(0, 1))  # (I, O), depthwise I=1
    return by_input[0] * mean if conv.depthwise else mean @ by_input
