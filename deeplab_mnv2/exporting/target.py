"""What an exported file is to compute."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from deeplab_mnv2.config import DetectionEvaluationConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.tasks.detection.decoding import find

PRECISIONS = ("float32", "float16", "int8")

Network = DeepLab | Classifier | SSDLite
# From an image (1, H, W, 3) uint8 to the file's outputs for it: logits or class ids, channels
# last; a detector's codes and logits, or boxes (D, 4), scores (D,) and labels (D,) of the D found.
Run = Callable[[np.ndarray], tuple[np.ndarray, ...]]


@dataclasses.dataclass(frozen=True)
class Target:
    """The form of an exported file.

    `size` is the height and width of its images; with `any_size` that of those it is checked on,
    and images of any multiples of 32 plus one are taken. The output is logits at the image's size,
    or without `resize` at the network's own; with `argmax` the class ids instead. `precision` is
    "float32", "float16" (kernels are stored so) or "int8". A classifier's logits have no size;
    `scaling` is what users are told of how its images are made, by the names of
    `Weights.scaling`, and {} for other networks. A detector's output is the boxes that
    `box_rules` leave, or without them its codes and logits.
    """

    class_names: tuple[str, ...]
    size: tuple[int, int] = (513, 513)
    any_size: bool = False
    precision: str = "float32"
    argmax: bool = False
    resize: bool = True
    scaling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    box_rules: DetectionEvaluationConfig | None = None


def outputs_of(network: Network, images: Array, target: Target) -> tuple[Array, ...]:
    """Return what a file of `target` returns for images (B, H, W, 3) uint8, as JAX computes it.

    Boxes (B, D, 4), scores (B, D), labels (B, D) and counts (B,) where there are `box_rules`.
    """
    if isinstance(network, SSDLite):
        if target.box_rules is not None:
            return tuple(find(network, images, target.box_rules))
        return network(network.normalize(images))
    pixels = network.normalize(images)
    if isinstance(network, Classifier) or target.resize:
        logits = network(pixels)
    else:
        logits = network.head_logits(pixels)
    if not target.argmax:
        return (logits.astype(jnp.float32),)
    # 8 bits hold the classes of a mask, not those of images.
    label = jnp.argmax(logits, axis=-1)
    return (label.astype(jnp.int32 if isinstance(network, Classifier) else jnp.uint8),)


def found_boxes(outputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Return boxes, scores and labels of the one image of a batch, without those that fill up."""
    boxes, scores, labels, counts = outputs
    count = int(counts[0])
    return boxes[0, :count], scores[0, :count], labels[0, :count].astype(np.int32)


def check_any_size(network: Network, target: Target, kind: str) -> None:
    """Check that a file can take images of any multiples of 32 plus one, of which pads are alike.

    Raises:
        UserError: the network is none for segmentation or pools over a fixed window, or the size
            that the file is checked at is no such multiple.
    """
    if not isinstance(network, DeepLab):
        raise UserError("--size any is for segmentation; give the height and width of the images.")
    if any(side % 32 != 1 or side < 33 for side in target.size):
        raise UserError(
            "--size {},{} is not of multiples of 32 plus one, as {} files of any size need; the "
            "nearest is {},{}.".format(
                *target.size, kind, *(max(1, round(n / 32)) * 32 + 1 for n in target.size)
            )
        )
    if network.config.image_pool_crop:
        raise UserError(
            f"A network with model.image_pool_crop={network.config.image_pool_crop} does not take "
            f"images of any size, as --format {kind} would have it; set --format onnx or litert "
            "and a --size."
        )
