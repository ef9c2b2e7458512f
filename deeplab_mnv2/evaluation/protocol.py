"""The exact conditions of a score, and a hash that tells whether two scores compare."""

import hashlib
import json
from importlib.metadata import version
from typing import Any

from deeplab_mnv2.config import DataSet, EvaluationConfig, ModelConfig

# Facts about how it was run rather than what was measured: outside the hash, so that other
# weights or a new library version stay comparable.
_OUTSIDE_HASH = ("weights", "versions")


def protocol(
    dataset: DataSet,
    config: EvaluationConfig,
    model: ModelConfig,
    *,
    images: int,
    weights_digest: str,
) -> dict[str, Any]:
    """Return the stamp of a score: data, padding, stride, scales and rules, with `protocol_hash`.

    Scores may be compared where the hashes agree. The network's own settings stand in
    `weights`, outside the hash, except its output stride and `align_corners`, by which its
    outputs are resized.
    """
    stamp: dict[str, Any] = {
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
    text = json.dumps(stamp, sort_keys=True)
    return {
        **stamp,
        "weights": weights_digest,
        "versions": {
            name: version(name) for name in ("deeplab_mnv2", "jax", "flax", "numpy", "pillow")
        },
        "protocol_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
    }


def differing_fields(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return the names of the protocol fields that keep two scores from being compared."""
    names = (first.keys() | second.keys()) - {*_OUTSIDE_HASH, "protocol_hash"}
    return sorted(name for name in names if first.get(name) != second.get(name))
