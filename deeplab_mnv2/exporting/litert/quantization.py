"""Integers for kernels and activations, from images of the training split."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from ai_edge_quantizer import quantizer, recipe_manager
from ai_edge_quantizer.recipe import AlgorithmName, TFLOperationName
from jax import Array

from deeplab_mnv2.exporting.graph import IMAGE, Convolution, Graph, evaluate

# Tensors of such names are left as float32.
UNQUANTIZED = "post/"
_LARGEST = 127  # symmetric int8
# Least largest weight of a channel, relative to its bias.
_LEAST_WEIGHT = 1e-4
# Each keeps all tensors of an image, 400 MB at 513 pixels.
_THREADS = 2
# Images for the means of `correct_biases`; they settle long before the ranges do.
_MEAN_IMAGES = 24


def quantize(content: bytes, images: list[np.ndarray]) -> bytes:
    """Return a float32 LiteRT file with int8 kernels and activations inside, float32 outside.

    Ranges of activations are measured on normalised images (1, H, W, channels).
    """
    recipe = recipe_manager.RecipeManager()
    recipe.add_static_config(
        regex=".*",
        operation_name=TFLOperationName.ALL_SUPPORTED,
        activation_num_bits=8,
        weight_num_bits=8,
    )
    # The task library takes no integer images, and its normalisation is for floats.
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        recipe.add_quantization_config(
            regex=".*", operation_name=end, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    # Logarithms and exponents of boxes need more than 8 bits.
    recipe.add_quantization_config(
        regex=f"{UNQUANTIZED}.*",
        operation_name=TFLOperationName.ALL_SUPPORTED,
        algorithm_key=AlgorithmName.NO_QUANTIZE,
    )
    worker = quantizer.Quantizer(bytearray(content), recipe.get_quantization_recipe())
    with warnings.catch_warnings():
        # It tells that calibration keeps all tensors, which is what calibration is.
        warnings.simplefilter("ignore", UserWarning)
        found = worker.calibrate(
            {"serving_default": [{IMAGE: image} for image in images]}, num_threads=_THREADS
        )
        result = worker.quantize(found, enable_progress_bar=False, enable_progress_report=False)
    # Optional only by its declaration.
    return bytes(result.quantized_model)  # pyright: ignore[reportArgumentType]


def correct_biases(graph: Graph, images: list[np.ndarray]) -> Graph:
    """Return the graph with biases that make up for what rounding the kernels shifts.

    Rounded kernels change a layer's mean output by their error times the mean input (Nagel et
    al. 2019, arXiv:1906.04721, Section 4.2), which in a depthwise layer is much. On 150 images of
    VOC's val at 513, ranges from 60 of train: Google's weights (deeplabv3_mnv2_pascal_quant) score
    72.42 mIoU with it, 70.66 without, 72.58 as float32; the package's 51.29, 51.16 and 52.32.
    """
    run = jax.jit(lambda image: _mean_inputs(graph, image))
    found = [run(image) for image in images[:_MEAN_IMAGES]]
    means = jax.tree.map(lambda *values: np.mean(values, axis=0), *found)
    operations = [
        _corrected(_with_scale(operation), means[operation.input])
        if isinstance(operation, Convolution)
        else operation
        for operation in graph.operations
    ]
    return dataclasses.replace(graph, operations=operations)


def _with_scale(conv: Convolution) -> Convolution:
    """Return a convolution in whose channels the bias is no 32-bit overflow of the kernel's scale.

    Trained networks have channels of zeros and a bias; the quantizer's scale for these, 1e-11, is
    so fine that the bias is lost. A weight of 1e-4 of the bias is less than any rounding.
    """
    least = _LEAST_WEIGHT * np.abs(conv.bias)
    is_short = np.abs(conv.kernel).max(axis=(0, 1, 2)) < least
    kernel = conv.kernel.copy()
    kernel[0, 0, 0, is_short] = least[is_short]
    return dataclasses.replace(conv, kernel=kernel)


def _corrected(conv: Convolution, mean: np.ndarray) -> Convolution:
    scale = np.abs(conv.kernel).max(axis=(0, 1, 2)) / _LARGEST
    scale = np.where(scale == 0, 1, scale)
    error = np.round(conv.kernel / scale) * scale - conv.kernel  # (k, k, I, O)
    by_input = error.sum(axis=(0, 1))
    shift = by_input[0] * mean if conv.depthwise else mean @ by_input
    return dataclasses.replace(conv, bias=(conv.bias - shift).astype(np.float32))


def _mean_inputs(graph: Graph, image: Array) -> dict[str, Array]:
    """Return the mean of each channel of what the convolutions read, by tensor."""
    tensors = evaluate(graph, image)
    names = {op.input for op in graph.operations if isinstance(op, Convolution)}
    return {name: jnp.mean(tensors[name], axis=(0, 1, 2)) for name in names}
