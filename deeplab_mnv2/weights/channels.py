"""Weights for photographs, made to fit images of other channels."""

import dataclasses

import numpy as np

from deeplab_mnv2.config import BackboneConfig
from deeplab_mnv2.weights.model_weights import Weights

_STEM = "backbone.stem.conv.kernel"


def adapt_to_channels(weights: Weights, config: BackboneConfig) -> Weights:
    """Return weights for red, green and blue with the channels and normalisation of `config`.

    Of a single channel, the stem's kernels are added up: a grey image gives what it gave in colour.
    Of several, they take the kernels of red, green, blue, red and so on, 3 / channels times, so
    that sums stay as large (the rule of timm's `adapt_input_conv`).
    """
    kernel, channels = weights.tensors[_STEM], config.in_channels  # (3, 3, 3, filters)
    if channels == 1:
        adapted = kernel.sum(axis=2, keepdims=True)
    else:
        adapted = kernel[:, :, np.arange(channels) % 3] * np.float32(3 / channels)
    return dataclasses.replace(
        weights,
        tensors=weights.tensors | {_STEM: adapted},
        config=dataclasses.replace(
            weights.config,
            in_channels=channels,
            image_mean=config.image_mean,
            image_std=config.image_std,
        ),
    )
