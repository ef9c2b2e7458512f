"""Integers for kernels and activations, from images of the training split."""

import warnings

import numpy as np
from ai_edge_quantizer import quantizer, recipe_manager
from ai_edge_quantizer.recipe import AlgorithmName, TFLOperationName

from deeplab_mnv2.exporting.graph import IMAGE

# Each keeps all tensors of an image, 400 MB at 513 pixels.
_THREADS = 2


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
