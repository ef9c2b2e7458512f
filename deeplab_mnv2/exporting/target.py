"""What an exported file is to compute, and the images it is tried on."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jax import Array

from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.photographs import files_below, is_image
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.deeplab import DeepLab

PRECISIONS = ("float32", "float16", "int8")

Network = DeepLab | Classifier
# From an image (1, H, W, 3) uint8 to the file's output for it, channels last.
Run = Callable[[np.ndarray], np.ndarray]
# From a photograph (H, W, 3) uint8 to what of it the network sees, of the size of its images.
Fit = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Target:
    """The form of an exported file.

    `size` is the height and width of its images. The output is logits at the image's size, or
    without `resize` at the network's own; with `argmax` the class ids instead. `precision` is
    "float32", "float16" (kernels are stored so) or "int8". A classifier's logits have no size;
    `scaling` is what users are told of how its images are made, by the names of
    `Weights.scaling`, and {} for segmentation.
    """

    class_names: tuple[str, ...]
    size: tuple[int, int] = (513, 513)
    precision: str = "float32"
    argmax: bool = False
    resize: bool = True
    scaling: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def logits_of(network: Network, images: Array, target: Target) -> Array:
    """Return the logits that a file of `target` holds, for normalised images."""
    if isinstance(network, Classifier) or target.resize:
        return network(images)
    return network.head_logits(images)


def read_images(folder: Path, count: int, fit: Fit) -> list[np.ndarray]:
    """Return up to `count` photographs spread over a folder, each (1, H, W, 3) uint8.

    Raises:
        UserError: the folder holds no images, or one of them is damaged.
    """
    problems: list[str] = []
    paths = [path for path in files_below(folder, problems) if is_image(path)]
    if problems:
        raise UserError(problems[0])
    if not paths:
        raise UserError(f"{folder} holds no images; give --calibration a folder that does.")
    chosen = {round(i) for i in np.linspace(0, len(paths) - 1, count)}
    return [fit(read_image(paths[index]))[None] for index in sorted(chosen)]


def draw_images(count: int, side: int, fit: Fit) -> list[np.ndarray]:
    """Return scenes of the embedded data set, drawn at side x side, each (1, H, W, 3) uint8."""
    source = Shapes(split="val", length=count, size=side).open()
    return [fit(source[index]["image"])[None] for index in range(count)]


def padded(image: np.ndarray, size: tuple[int, int], mean_pixel: tuple[int, ...]) -> np.ndarray:
    """Return an image of another size (H, W, 3), for segmentation.

    A larger one is scaled down; the rest, at the bottom and right, is the mean pixel.
    """
    scale = min(1.0, size[0] / image.shape[0], size[1] / image.shape[1])
    if scale < 1:
        shape = [max(1, round(n * scale)) for n in image.shape[1::-1]]
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    canvas = np.empty((*size, 3), np.uint8)
    canvas[:] = mean_pixel
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas
