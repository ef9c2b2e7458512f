"""The conditions under which segmentation is scored."""

from typing import Any

from deeplab_mnv2.config import DataSet, DeepLabConfig, EvaluationConfig


def protocol(
    dataset: DataSet, config: EvaluationConfig, model: DeepLabConfig, images: int
) -> dict[str, Any]:
    """Return what `evaluation.protocol.stamped` hashes: data, padding, stride, scales and rules.

    Of the network's own settings its output stride and `align_corners`, by which its outputs are
    resized; the others are outside, in the digest of the weights.
    """
    return {
        "data_set": type(dataset).__name__,
        "split": dataset.split,
        "split_digest": dataset.digest(),
        "classes": list(dataset.class_names),
        "images": images,
        "pad": "mean pixel and label 255, bottom and right, square, never resized",
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
