"""Networks whose exports are tested, at random weights, and the images they are tested on."""

from functools import partial

import numpy as np

from deeplab_mnv2 import weights
from deeplab_mnv2.exporting.images import draw_images, padded
from tests.support.random_weights import random_weights

SIZE = (65, 65)
NETWORKS = {
    "mobile": {},
    "symmetric": {"padding": "symmetric", "align_corners": False},
    "aspp": {"atrous_rates": (1, 2), "image_pool_crop": 33, "linear_bottleneck": False},
    "decoder": {
        "atrous_rates": (1,),
        "separable_aspp": True,
        "decoder": True,
        "shortcut": "expansion",
        "output_stride": 8,
    },
}


def source_of(**settings) -> weights.Weights:
    return random_weights(width_multiplier=0.35, head_channels=32, num_classes=5, **settings)


def images_for(count: int, model) -> list[np.ndarray]:
    return drawn(count, SIZE, model)


def drawn(count: int, size: tuple[int, int], model) -> list[np.ndarray]:
    fit = partial(padded, size=size, mean_pixel=model.config.mean_pixel)
    return draw_images(count, max(size), fit, model.config.in_channels)
