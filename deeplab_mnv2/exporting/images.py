"""The images that an exported file is tried on: photographs as its network sees them."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deeplab_mnv2.config import BackboneConfig, ClassificationEvaluationConfig
from deeplab_mnv2.data.bands import network_image, suffixes_for
from deeplab_mnv2.data.photographs import files_below, is_image
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.target import Target
from deeplab_mnv2.tasks.classification.classifier import scaling_of
from deeplab_mnv2.tasks.classification.transforms import centre
from deeplab_mnv2.tasks.detection.transforms import resize
from deeplab_mnv2.weights import Weights
from deeplab_mnv2.weights.naming import SCALING

# Images that the file is checked on, and that the ranges of int8 come from. A mask is checked at
# each of its pixels, a classifier's image is one answer alone.
CHECKED, CALIBRATED = {"segmentation": 8, "classification": 32, "detection": 16}, 100

# From an image (H, W, C) uint8 to what of it the network sees, of the size of its images.
Fit = Callable[[np.ndarray], np.ndarray]


def preparation(source: Weights, target: Target) -> tuple[Fit, Mapping[str, Any]]:
    """Return how a photograph becomes an image of the target's size, and what users are told of it.

    Raises:
        UserError: the target does not fit the task.
    """
    mean_pixel = source.config.mean_pixel
    if source.kind == "classification":
        scaling = _scaling(source, target)
        told = {name: getattr(scaling, name) for name in SCALING}
        return partial(centre, config=scaling, mean_pixel=mean_pixel), told
    if source.kind == "detection":
        return partial(resize, size=target.size[0]), {}
    return partial(padded, size=target.size, mean_pixel=mean_pixel), {}


def read_or_draw(
    source: Weights, target: Target, folder: Path | None, fit: Fit, checked: int, calibrated: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the images to check on and those to calibrate with, (1, H, W, C) uint8 each.

    Raises:
        UserError: some are to calibrate with but there is no folder, or it cannot be used.
    """
    if folder is None:
        if calibrated:
            raise UserError("int8 needs --calibration FOLDER, with images of the training split.")
        return draw_images(checked, max(target.size), fit, source.config.in_channels), []
    found = read_images(folder, checked + calibrated, fit, source.config)
    # Ranges come from other images than the check, where there are enough.
    step = max(1, len(found) // checked)
    return found[::step], [image for i, image in enumerate(found) if i % step] or found


def read_images(folder: Path, count: int, fit: Fit, config: BackboneConfig) -> list[np.ndarray]:
    """Return up to `count` images spread over a folder, each (1, H, W, C) uint8.

    Raises:
        UserError: the folder holds no images, or one of them is damaged.
    """
    problems: list[str] = []
    paths = [path for path in files_below(folder, problems) if is_image(path, suffixes_for(config))]
    if problems:
        raise UserError(problems[0])
    if not paths:
        raise UserError(f"{folder} holds no images; give --calibration a folder that does.")
    chosen = {round(i) for i in np.linspace(0, len(paths) - 1, count)}
    return [fit(network_image(paths[index], config))[None] for index in sorted(chosen)]


def draw_images(count: int, side: int, fit: Fit, channels: int) -> list[np.ndarray]:
    """Return scenes of the embedded data set, drawn at side x side, each (1, H, W, C) uint8.

    Other channels than three are red, green, blue, red and so on.
    """
    source = Shapes(split="val", length=count, size=side).open()
    images = (source[index]["image"][..., np.arange(channels) % 3] for index in range(count))
    return [fit(image)[None] for image in images]


def padded(image: np.ndarray, size: tuple[int, int], mean_pixel: tuple[int, ...]) -> np.ndarray:
    """Return an image of another size (H, W, C), for segmentation.

    A larger one is scaled down; the rest, at the bottom and right, is the mean pixel.
    """
    scale = min(1.0, size[0] / image.shape[0], size[1] / image.shape[1])
    if scale < 1:
        shape = [max(1, round(n * scale)) for n in image.shape[1::-1]]
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
        image = image.reshape(*image.shape[:2], -1)  # a single band has lost its axis
    canvas = np.empty((*size, image.shape[2]), np.uint8)
    canvas[:] = mean_pixel
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def _scaling(source: Weights, target: Target) -> ClassificationEvaluationConfig:
    """Return how the images of a classifier are scaled and cropped to the target's size.

    At another size than it is scored at, images are scaled in proportion: it sees the same part.
    """
    height, width = target.size
    if height != width:
        raise UserError(
            f"--size {height},{width} is not square, as a classifier's images are; give one side."
        )
    scaling = scaling_of(source)
    scaling.check(source.config.output_stride)
    size = round(scaling.resize * height / scaling.crop_size)
    return dataclasses.replace(scaling, resize=size, crop_size=height)
