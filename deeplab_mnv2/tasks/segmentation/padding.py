"""Examples made ready for scoring: padded to few sizes, with all that is counted by pixel."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL, DeepLabConfig, EvaluationConfig
from deeplab_mnv2.tasks.segmentation.object_sizes import object_sizes
from deeplab_mnv2.tasks.segmentation.transforms import boundary_band, checked_example, pad

# What the images are filled with that complete a short batch.
FILL = {"label": IGNORE_LABEL}


# Networks of this family are trained on photographs padded to squares of up to 513 pixels, and
# image pooling sees the padding: Google's VOC weights score 72.5 mIoU in squares of 513 and 72.1 in
# rectangles around the same images. Where a square would be larger, or little else than padding,
# a close rectangle is better: 64.5 against 50.5 on those images enlarged to 600 pixels.
LARGEST_SQUARE, LONGEST_IN_SQUARE = 513, 2
# What sides beyond the largest of the `pad_sizes` grow by, in pixels.
_STEP = 512


@dataclasses.dataclass(frozen=True)
class PrepareForScoring:
    """Maps an example to arrays of one of few shapes; runs on the reader threads.

    `image` (H, W, C) uint8 padded with the mean pixel, `label` (H, W) uint8 padded with 255,
    `band` (H, W) uint8 of `boundary_band`, `object_size` (H, W) uint8 and `objects` (3, C) of
    `object_sizes`, and the list entry `size` (h, w).
    """

    config: EvaluationConfig
    model: DeepLabConfig

    def __call__(self, example: Mapping[str, Any]) -> dict[str, Any]:
        image, label = checked_example(example, self.model)
        stride = self.config.output_stride or self.model.output_stride
        shape = padded_shape(label.shape, self.config.pad_sizes, stride)
        # Before padding: the frame's edge is not an object's boundary.
        band = boundary_band(label, self.config.boundary_widths)
        size, objects = object_sizes(label, self.model.num_classes)
        padded_image, padded_label = pad(image, label, shape, self.model.mean_pixel)
        return {
            "image": padded_image,
            "label": padded_label,
            "band": _pad_zeros(band, shape),
            "object_size": _pad_zeros(size, shape),
            "objects": objects,
            "size": label.shape,
        }


def padded_shape(
    shape: Sequence[int], pad_sizes: Sequence[int], output_stride: int
) -> tuple[int, int]:
    """Return the height and width that an image (height, width) is padded to.

    Each side is padded to the smallest of `pad_sizes` that holds it, beyond the largest in steps of
    512 pixels. An image of up to 513 pixels, at most twice as long as wide, becomes a square.
    `evaluate` and `Segmenter` both follow this rule.
    """
    if max(shape) <= min(LARGEST_SQUARE, LONGEST_IN_SQUARE * min(shape)):
        shape = [max(shape)] * 2
    height, width = (_padded_side(side, pad_sizes, output_stride) for side in shape)
    return height, width


def _padded_side(side: int, pad_sizes: Sequence[int], output_stride: int) -> int:
    if fitting := [size for size in pad_sizes if size >= side]:
        return min(fitting)
    step = _STEP // output_stride * output_stride
    return -(-(side - 1) // step) * step + 1


def _pad_zeros(array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.pad(array, [(0, new - old) for new, old in zip(shape, array.shape, strict=True)])
