"""The conditions under which segmentation is scored."""

from typing import Any

import numpy as np

from deeplab_mnv2.config import DataSet, DeepLabConfig, EvaluationConfig

_PAD = "mean pixel and label 255, bottom and right, square, never resized"
_PAD_SIDES = (
    "mean pixel and label 255, bottom and right, never resized; each side by itself, but images of "
    "up to 513 pixels and 1:2 square"
)


def protocol(
    dataset: DataSet, config: EvaluationConfig, model: DeepLabConfig, extents: np.ndarray
) -> dict[str, Any]:
    """Return what `evaluation.protocol.stamped` hashes: data, padding, stride, scales and rules.

    Of the network's own settings its output stride and `align_corners`, by which its outputs are
    resized; the others are outside, in the digest of the weights. `extents` (N, 2, 2) are the
    sizes of the images and of what they were padded to, as in `counting.Counts`.
    """
    return {
        "data_set": type(dataset).__name__,
        "split": dataset.split,
        "split_digest": dataset.digest(),
        "classes": list(dataset.class_names),
        "images": len(extents),
        # Where all became squares, as VOC's do, scores compare with those of a rule without
        # rectangles.
        "pad": _PAD if (extents[:, 1, 0] == extents[:, 1, 1]).all() else _PAD_SIDES,
        "pad_sizes": list(config.pad_sizes),
        "output_stride": model.output_stride,
        "scales": list(config.scales),
        "flip": config.flip,
        "align_corners": model.align_corners,
        "resolution": "the label's own",
        "void": "label 255 counts nowhere",
        "absent": "classes in neither label nor prediction are left out of the mean",
        "boundary_widths": list(config.boundary_widths),
    }
