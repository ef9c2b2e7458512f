"""Examples made ready for scoring: padded to few sizes, with all that is counted by pixel."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL, DeepLabConfig, EvaluationConfig
from deeplab_mnv2.tasks.segmentation.object_sizes import object_sizes
from deeplab_mnv2.tasks.segmentation.transforms import boundary_band, check_example, pad

# What the images are filled with that complete a short batch.
FILL = {"label": IGNORE_LABEL}


@dataclasses.dataclass(frozen=True)
class PrepareForScoring:
    """Maps an example to arrays of one of few shapes; runs on the reader threads.

    `image` (S, S, 3) uint8 padded with the mean pixel, `label` (S, S) uint8 padded with 255,
    `band` (S, S) uint8 of `boundary_band`, `object_size` (S, S) uint8 and `objects` (3, C) of
    `object_sizes`, and the list entry `size` (h, w).
    """

    config: EvaluationConfig
    model: DeepLabConfig

    def __call__(self, example: Mapping[str, Any]) -> dict[str, Any]:
        check_example(example, self.model.num_classes)
        image, label = example["image"], example["label"]
        height, width = label.shape
        stride = self.config.output_stride or self.model.output_stride
        side = bucket_side(height, width, self.config, stride)
        # Before padding: the frame's edge is not an object's boundary.
        band = boundary_band(label, self.config.boundary_widths)
        size, objects = object_sizes(label, self.model.num_classes)
        padded_image, padded_label = pad(image, label, side, self.model.mean_pixel)
        return {
            "image": padded_image,
            "label": padded_label,
            "band": _pad_zeros(band, side),
            "object_size": _pad_zeros(size, side),
            "objects": objects,
            "size": (height, width),
        }


def bucket_side(height: int, width: int, config: EvaluationConfig, output_stride: int) -> int:
    """Return the smallest padding side that holds the image.

    Beyond the largest of `pad_sizes`, sides grow in steps of 512 pixels.
    """
    side = max(height, width)
    fitting = [size for size in config.pad_sizes if size >= side]
    if fitting:
        return min(fitting)
    step = 512 // output_stride * output_stride
    return -(-(side - 1) // step) * step + 1


def _pad_zeros(array: np.ndarray, side: int) -> np.ndarray:
    height, width = array.shape
    return np.pad(array, ((0, side - height), (0, side - width)))
