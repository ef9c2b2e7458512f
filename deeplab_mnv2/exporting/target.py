"""What an exported file is to compute."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from deeplab_mnv2.config import DetectionEvaluationConfig
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

    `size` is the height and width of its images. The output is logits at the image's size, or
    without `resize` at the network's own; with `argmax` the class ids instead. `precision` is
    "float32", "float16" (kernels are stored so) or "int8". A classifier's logits have no size;
    `scaling` is what users are told of how its images are made, by the names of
    `Weights.scaling`, and {} for other networks. A detector's output is the boxes that
    `box_rules` leave, or without them its codes and logits.
    """

    class_names: tuple[str, ...]
    size: tuple[int, int] = (513, 513)
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
