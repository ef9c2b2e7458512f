"""Integers for the kernels and activations of a LiteRT file, in the ranges of its network."""

import contextlib
import io
import re
import warnings
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
from litert_quantizer import quantizer, recipe_manager
from litert_quantizer.recipe import AlgorithmName, TFLOperationName


def quantize(content: bytes, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """Return a float32 LiteRT file with int8 kernels and activations inside, float32 outside.

    `ranges` are the least and the largest value of each tensor that is to be integers; what gives
    another one computes in floats, such as the logarithms and exponents of boxes.
    """
    recipe = recipe_manager.RecipeManager()
    names = "|".join(map(re.escape, ranges))
    recipe.add_static_config(
        regex=f"^({names});?$",
        operation_name=TFLOperationName.ALL_SUPPORTED,
        activation_num_bits=8,
        weight_num_bits=8,
    )
    # The task library takes no integer images, and its normalisation is for floats.
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        recipe.add_quantization_config(
            regex=".*", operation_name=end, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    given: dict[str, MutableMapping[str, Any]] = {
        name: {"min": _as_array(low), "max": _as_array(high)}
        for name, (low, high) in ranges.items()
    }
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        # It keeps all tensors, warns that it does, and draws bars that nobody can turn off.
        warnings.simplefilter("ignore", UserWarning)
        worker = quantizer.Quantizer(bytearray(content), recipe.get_quantization_recipe())
        result = worker.quantize(given, enable_progress_bar=False, enable_progress_report=False)
    # Optional only by its declaration.
    return bytes(result.quantized_model)  # pyright: ignore[reportArgumentType]


def _as_array(end: float) -> np.ndarray:
    """Return an end of a range in the shape of the quantizer's own."""
    return np.full((1, 1, 1, 1), end, np.float32)
